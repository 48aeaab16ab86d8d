//! The worker's numbers: nothing is lost, buckets are right, and the catalogue knows every series.

use std::collections::BTreeSet;

use super::super::catalogue::{ALL, FELT, Kind, Source};
use super::*;

#[test]
fn the_numbers_of_all_workers_are_added_up() {
    let workers = [WorkerStats::new(), WorkerStats::new()];
    workers[0].add(Counter::CommandsRead, 3);
    workers[1].add(Counter::CommandsRead, 4);
    workers[1].add(Counter::CommandsOther, 1);
    workers[0].raise(Gauge::ConnectionsOpen, 2);
    workers[1].set(Gauge::ConnectionsOpen, 5);
    workers[0].lower(Gauge::ConnectionsOpen, 1);
    let totals = Totals::of(&workers);
    assert_eq!(totals.counter(Counter::CommandsRead), 7);
    assert_eq!(totals.commands(), 8);
    assert_eq!(totals.gauge(Gauge::ConnectionsOpen), 6);
    assert_eq!(totals.counter(Counter::CommandsWrite), 0);
}

#[test]
fn a_gauge_never_wraps_below_zero() {
    let worker = WorkerStats::new();
    worker.lower(Gauge::HeldBytes, 9);
    assert_eq!(worker.gauge(Gauge::HeldBytes), 0);
}

#[test]
fn a_time_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
    let worker = WorkerStats::new();
    worker.observe(Histogram::Added, Duration::ZERO);
    worker.observe(Histogram::Added, Duration::from_micros(10));
    worker.observe_many(Histogram::Added, Duration::from_nanos(10_001), 3);
    worker.observe(Histogram::Added, Duration::from_secs(31));
    let times = Totals::of(&[worker]).histogram(Histogram::Added);
    assert_eq!((times.counts[0], times.counts[1], times.counts[BOUNDS.len()]), (2, 3, 1));
    assert_eq!(times.count(), 6);
    assert_eq!(times.nanos, 10_000 + 30_003 + 31_000_000_000);
}

#[test]
fn a_hold_of_exactly_the_limit_is_not_felt_and_a_longer_one_is() {
    let worker = WorkerStats::new();
    worker.observe(Histogram::Hold, Duration::from_secs(1));
    worker.observe(Histogram::Hold, Duration::from_nanos(1_000_000_001));
    worker.observe(Histogram::Hold, Duration::from_secs(3_600));
    assert_eq!(Totals::of(&[worker]).histogram(Histogram::Hold).above(STALL_FELT), 2);
}

#[test]
fn bounds_ascend_and_hold_the_limit_of_what_is_felt() {
    assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(BOUNDS.contains(&STALL_FELT));
}

#[test]
fn every_series_of_the_catalogue_is_kept_by_exactly_one_number() {
    let mut kept = Vec::new();
    let kinds = [
        (Kind::Counter, Counter::ALL.iter().map(|c| (c.family(), c.values())).collect::<Vec<_>>()),
        (Kind::Gauge, Gauge::ALL.iter().map(|g| (g.family(), g.values())).collect()),
        (Kind::Histogram, Histogram::ALL.iter().map(|h| (h.family(), h.values())).collect()),
    ];
    for (kind, series) in kinds {
        for (family, values) in series {
            assert_eq!(family.kind, kind, "{}", family.name);
            kept.push((family.name, values.to_vec()));
        }
    }
    let mut listed = BTreeSet::new();
    for family in ALL.iter().filter(|family| family.source == Source::Worker && **family != &FELT) {
        let mut combinations = vec![Vec::new()];
        for label in family.labels {
            combinations = combinations
                .iter()
                .flat_map(|head: &Vec<&str>| label.values.iter().map(move |v| [head.as_slice(), &[v.0]].concat()))
                .collect();
        }
        listed.extend(combinations.into_iter().map(|values| (family.name, values)));
    }
    assert_eq!(kept.len(), listed.len(), "a series is kept twice");
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), listed);
}

#[test]
fn readers_never_see_a_number_go_back_while_the_worker_counts() {
    let worker = WorkerStats::new();
    let reader = Arc::clone(&worker);
    let counting = std::thread::spawn(move || (0..200_000).for_each(|_| worker.add(Counter::CommandsRead, 1)));
    let mut last = 0;
    while !counting.is_finished() {
        let now = reader.counter(Counter::CommandsRead);
        assert!(now >= last);
        last = now;
    }
    counting.join().unwrap();
    assert_eq!(reader.counter(Counter::CommandsRead), 200_000);
}
