//! Everything as text, when somebody scrapes (Prometheus' text format 0.0.4).
//!
//! Two sources: the facade's recorder for rare events, and the workers' integers, which are added up here. Every
//! series is written from the first scrape on, also at 0. Counts nothing itself, except that
//! `changeover_client_felt_total` is derived here from the counters that it consists of, so that no event can be in
//! one of them and not in the other.

use std::fmt::Write as _;
use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::catalogue::{FELT, Family};
use super::worker::{BOUNDS, Counter, Gauge, Histogram, STALL_FELT, Totals, WorkerStats};

/// The value of the `content-type` header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a scrape reads.
#[derive(Clone)]
pub struct Scrape {
    events: PrometheusHandle,
    process: metrics_process::Collector,
    workers: Vec<Arc<WorkerStats>>,
}

impl std::fmt::Debug for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrape").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// A recorder for the facade could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The recorder refused its settings.
    #[error("metrics: {0}")]
    Settings(#[from] BuildError),
    /// A process has one recorder.
    #[error("metrics: a recorder is already installed")]
    Twice,
}

/// Installs the process' recorder: call it once, before `Events::new`, and only where metrics are served (a recorder
/// that nobody scrapes would keep every sample).
pub fn install(workers: Vec<Arc<WorkerStats>>) -> Result<Scrape, InstallError> {
    let recorder = recorder()?;
    let scrape = Scrape::new(recorder.handle(), workers);
    metrics::set_global_recorder(recorder).map_err(|_| InstallError::Twice)?;
    scrape.process.describe();
    Ok(scrape)
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let bounds = BOUNDS.map(seconds);
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &bounds)?;
    Ok(builder.build_recorder())
}

impl Scrape {
    fn new(events: PrometheusHandle, workers: Vec<Arc<WorkerStats>>) -> Self {
        Self { events, process: metrics_process::Collector::default(), workers }
    }

    /// The whole text.
    pub fn render(&self) -> String {
        self.process.collect();
        let mut text = self.events.render();
        let totals = Totals::of(&self.workers);
        write_felt(&mut text, &totals);
        write_numbers(&mut text, Counter::ALL, |counter| {
            (counter.family(), counter.values(), totals.counter(*counter))
        });
        write_numbers(&mut text, Gauge::ALL, |gauge| (gauge.family(), gauge.values(), totals.gauge(*gauge)));
        for histogram in Histogram::ALL {
            write_histogram(&mut text, *histogram, &totals);
        }
        text
    }

    /// Gives back the memory of samples that nobody has scraped yet; to be called every few seconds.
    pub fn run_upkeep(&self) {
        self.events.run_upkeep();
    }
}

/// What clients felt, in the order of the catalogue: see `FELT` there for the meaning of each.
pub fn felt(totals: &Totals) -> [(&'static str, u64); 8] {
    let counter = |counter| totals.counter(counter);
    let stalled = totals.histogram(Histogram::Hold).above(STALL_FELT);
    let cut = [Counter::ClosedDrainCut, Counter::ClosedStateLost, Counter::ClosedHalf].map(counter).iter().sum();
    [
        ("refused", counter(Counter::RefusedCommands)),
        ("unknown", counter(Counter::UnknownOutcomes)),
        ("stalled", stalled),
        ("cut", cut),
        ("reconnect", counter(Counter::ClosedDrain)),
        ("turned_away", counter(Counter::ClosedLimit)),
        ("watch_failed", counter(Counter::WatchFailed)),
        ("message_gap", counter(Counter::MessageGaps)),
    ]
}

fn write_felt(text: &mut String, totals: &Totals) {
    head(text, &FELT);
    for (what, count) in felt(totals) {
        line(text, &FELT, &[what], count);
    }
}

/// The series of one family stand together in the tables, so that a new family begins where the name changes.
fn write_numbers<S>(
    text: &mut String,
    series: &[S],
    read: impl Fn(&S) -> (&'static Family, &'static [&'static str], u64),
) {
    let mut last = "";
    for one in series {
        let (family, values, number) = read(one);
        if family.name != last {
            head(text, family);
            last = family.name;
        }
        line(text, family, values, number);
    }
}

fn write_histogram(text: &mut String, histogram: Histogram, totals: &Totals) {
    let family = histogram.family();
    let times = totals.histogram(histogram);
    head(text, family);
    let mut below = 0_u64;
    for (bound, count) in BOUNDS.iter().zip(times.counts) {
        below = below.saturating_add(count);
        put(text, format_args!("{}_bucket{{le=\"{}\"}} {below}\n", family.name, seconds(*bound)));
    }
    put(text, format_args!("{}_bucket{{le=\"+Inf\"}} {}\n", family.name, times.count()));
    put(text, format_args!("{}_sum {}\n", family.name, seconds(times.nanos)));
    put(text, format_args!("{}_count {}\n", family.name, times.count()));
}

fn head(text: &mut String, family: &Family) {
    let Family { name, help, kind, .. } = family;
    put(text, format_args!("\n# HELP {name} {help}\n# TYPE {name} {}\n", kind.word()));
}

fn line(text: &mut String, family: &Family, values: &[&str], number: u64) {
    text.push_str(family.name);
    let mut before = '{';
    for (label, value) in family.labels.iter().zip(values) {
        put(text, format_args!("{before}{}=\"{value}\"", label.name));
        before = ',';
    }
    if before == ',' {
        text.push('}');
    }
    put(text, format_args!(" {number}\n"));
}

fn put(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(args);
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests;
