//! What a scraper reads: valid text, complete from the first scrape, and the same metrics as the catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::catalogue::ALL;
use super::super::events::{Events, Probe};
use super::*;
use crate::topology::node::{Epoch, NodeId};
use crate::topology::view::{Doubt, NoPrimary, View};

/// A scrape after `act`, as a map from series to value, and the text.
fn scrape(act: impl FnOnce(&Events, &WorkerStats)) -> (BTreeMap<String, f64>, String) {
    let recorder = recorder().unwrap();
    let worker = WorkerStats::new();
    let scrape = Scrape::new(recorder.handle(), vec![Arc::clone(&worker), WorkerStats::new()]);
    let text = metrics::with_local_recorder(&recorder, || {
        let events = Events::new(vec!["a".to_owned(), "b".to_owned()]);
        act(&events, &worker);
        scrape.render()
    });
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let series = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    });
    (series.collect(), text.clone())
}

fn family(series: &str) -> &str {
    let name = series.split('{').next().unwrap();
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[test]
fn the_first_scrape_has_every_metric_of_the_catalogue_and_no_other() {
    let (series, text) = scrape(|_, _| {});
    let scraped: BTreeSet<&str> = series.keys().map(|s| family(s)).filter(|s| !s.starts_with("process_")).collect();
    assert_eq!(scraped, ALL.iter().map(|family| family.name).collect());
    for one in ALL {
        assert!(text.contains(&format!("# HELP {} {}\n", one.name, one.help)), "{}", one.name);
        assert!(text.contains(&format!("# TYPE {} {}\n", one.name, one.kind.word())), "{}", one.name);
    }
    assert!(series.keys().any(|s| s == "process_resident_memory_bytes"), "the process' own metrics");
}

#[test]
fn every_label_and_value_is_in_the_catalogue() {
    let (series, _) = scrape(|events, _| {
        events.changed("unplanned", Duration::from_millis(700), Some(12));
        events.probe(NodeId(1), Probe::Silent);
        events.drained(2, 0, 1);
    });
    for one in series.keys().filter(|s| s.starts_with("changeover_")) {
        let family = ALL.iter().find(|f| f.name == family(one)).unwrap();
        let Some((_, labels)) = one.split_once('{') else { continue };
        for label in labels.trim_end_matches('}').split(',') {
            let (name, value) = label.split_once('=').unwrap();
            let value = value.trim_matches('"');
            if name == "le" {
                continue;
            }
            let listed = family.labels.iter().find(|l| l.name == name).unwrap_or_else(|| panic!("{one}: {name}"));
            let open = ["a", "b", env!("CARGO_PKG_VERSION")];
            let known =
                listed.values.iter().any(|(v, _)| *v == value) || (listed.values.is_empty() && open.contains(&value));
            assert!(known, "{one}: {value}");
        }
    }
}

#[test]
fn no_series_is_written_twice() {
    let (series, text) = scrape(|_, _| {});
    assert_eq!(series.len(), text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count());
    assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE changeover_")).count(), ALL.len());
}

#[test]
fn what_clients_felt_is_the_sum_of_its_parts() {
    let (series, _) = scrape(|_, worker| {
        worker.add(Counter::RefusedCommands, 1);
        worker.add(Counter::UnknownOutcomes, 2);
        worker.observe(Histogram::Hold, Duration::from_millis(999));
        worker.observe_many(Histogram::Hold, Duration::from_millis(1_001), 3);
        worker.add(Counter::ClosedDrainCut, 3);
        worker.add(Counter::ClosedStateLost, 1);
        worker.add(Counter::ClosedDrain, 5);
        worker.add(Counter::ClosedLimit, 6);
        worker.add(Counter::WatchFailed, 7);
        worker.add(Counter::MessageGaps, 8);
        // Not felt: clients that leave, break the protocol, or fail to log in do so by themselves.
        worker.add(Counter::ClosedByClient, 100);
        worker.add(Counter::ClosedProtocol, 100);
        worker.add(Counter::ResentRefused, 100);
    });
    let felt = |what| series[&format!("changeover_client_felt_total{{what=\"{what}\"}}")];
    let values = FELT.labels[0].values.iter().map(|(what, _)| felt(what)).collect::<Vec<_>>();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
}

#[test]
fn buckets_are_cumulative_and_end_in_the_count() {
    let (series, text) = scrape(|_, worker| {
        worker.observe(Histogram::Added, Duration::from_micros(30));
        worker.observe(Histogram::Added, Duration::from_micros(30));
        worker.observe(Histogram::Added, Duration::from_secs(60));
    });
    let bucket = |le| series[&format!("changeover_added_latency_seconds_bucket{{le=\"{le}\"}}")];
    assert_eq!((bucket("0.000025"), bucket("0.00005"), bucket("30"), bucket("+Inf")), (0.0, 2.0, 2.0, 3.0));
    assert_eq!(series["changeover_added_latency_seconds_count"], 3.0);
    assert_eq!(series["changeover_added_latency_seconds_sum"], 60.00006);
    assert!(!text.contains("e-"), "bounds are written without exponents");
}

#[test]
fn the_view_names_one_primary_at_most() {
    let view = |primary| View { epoch: Epoch(7), primary, given_up: Epoch(0) };
    let (series, _) = scrape(|events, _| {
        events.view(&view(Ok(NodeId(0))));
        events.view(&view(Ok(NodeId(1))));
    });
    let primary = |node| series[&format!("changeover_primary{{node=\"{node}\"}}")];
    assert_eq!((primary("a"), primary("b"), series["changeover_view_epoch"]), (0.0, 1.0, 7.0));
    assert_eq!(series["changeover_doubt"], 0.0);
    let (series, _) = scrape(|events, _| events.view(&view(Err(NoPrimary::Doubt(Doubt::Siblings)))));
    let primary = |node| series[&format!("changeover_primary{{node=\"{node}\"}}")];
    assert_eq!((primary("a"), primary("b"), series["changeover_doubt"]), (0.0, 0.0, 1.0));
}

#[test]
fn changes_are_counted_with_their_times() {
    let (series, _) = scrape(|events, _| {
        events.changed("announced", Duration::from_micros(2_500), Some(0));
        events.felt("announced", Duration::from_micros(3_100));
        events.switchover("switched");
    });
    assert_eq!(series["changeover_changes_total{kind=\"announced\"}"], 1.0);
    assert_eq!(series["changeover_change_seconds_bucket{kind=\"announced\",le=\"0.0025\"}"], 1.0);
    assert_eq!(series["changeover_last_change_longest_stall_seconds"], 0.0031);
    assert_eq!(series["changeover_lost_bytes_total"], 0.0);
    assert_eq!(series["changeover_switchovers_total{outcome=\"switched\"}"], 1.0);
}
