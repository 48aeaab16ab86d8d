//! Commands are run once, bounded in time, and their end is found again. Keepers run in this process here.

use super::*;

fn job(argv: &[&str], deadline_ms: u64) -> (tempfile::TempDir, JobFolder) {
    let folder = tempfile::tempdir().unwrap();
    let job = Job { argv: argv.iter().map(|word| (*word).to_owned()).collect(), deadline_ms };
    write_whole(folder.path(), "job.json", &serde_json::to_vec(&job).unwrap()).unwrap();
    let at = JobFolder::new(folder.path().to_owned());
    (folder, at)
}

#[tokio::test]
async fn a_command_is_run_at_most_once_whoever_keeps_it() {
    let (folder, job) = job(&["sh", "-c", "echo once >> \"$0\"", "COUNT"], 5_000);
    let count = folder.path().join("count");
    let text = fs::read_to_string(folder.path().join("job.json")).unwrap();
    fs::write(folder.path().join("job.json"), text.replace("COUNT", count.to_str().unwrap())).unwrap();
    for _ in 0..3 {
        job.keep().await.unwrap();
    }
    assert_eq!(job.join().await, Ended::Well);
    assert_eq!(fs::read_to_string(count).unwrap(), "once\n");
}

#[tokio::test]
async fn arguments_reach_the_command_as_they_are_and_its_words_are_kept() {
    let (_folder, job) = job(&["sh", "-c", "echo \"$1\" >&2; exit 7", "sh", "$(date) ; *"], 5_000);
    job.keep().await.unwrap();
    let Ended::Badly(why) = job.join().await else { panic!("ended well") };
    assert!(why.contains("exit status: 7") && why.contains("$(date) ; *"), "{why}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let (_folder, job) = job(&["sh", "-c", "sleep 600 & echo $!; wait"], 300);
    job.keep().await.unwrap();
    let Ended::Badly(why) = job.join().await else { panic!("ended well") };
    assert!(why.contains("did not end within 300 ms"), "{why}");
    let child = fs::read_to_string(job.path().join("output")).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "still there: {state}");
}

#[tokio::test]
async fn a_command_that_is_not_there_says_so() {
    let (_folder, job) = job(&["/no/such/program"], 300);
    job.keep().await.unwrap();
    let Ended::Badly(why) = job.join().await else { panic!("ended well") };
    assert!(why.contains("/no/such/program: No such file"), "{why}");
}

#[tokio::test]
async fn where_nobody_knows_the_end_nobody_pretends_to() {
    let (folder, job) = job(&["true"], 300);
    assert_eq!(job.join().await, Ended::NeverStarted);
    fs::write(folder.path().join("begun"), "").unwrap();
    fs::write(folder.path().join("lock"), "").unwrap();
    assert_eq!(job.join().await, Ended::Unknown);
    // A keeper that comes late does not begin it again.
    job.keep().await.unwrap();
    assert_eq!(job.join().await, Ended::Unknown);
}
