//! What a decision of the gate costs at 10,000 queued jobs of 500 clients, and how long a simulated day takes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nvidia_sidecar::clock::Moment;
use nvidia_sidecar::config::limiter::{Adaptive, QueueSettings, Settings};
use nvidia_sidecar::limiter::admission::{Candidate, Next, Report, Verdict};
use nvidia_sidecar::limiter::gate::Gate;
use nvidia_sidecar::priority::Priority;
use nvidia_sidecar::simulate::{engine, scenario};

const JOBS: u64 = 10_000;
const CLIENTS: u64 = 500;
const DECISIONS: u64 = 1_000;
/// Between two decisions; at the benchmark's rate more than one token comes in it.
const STEP: Duration = Duration::from_micros(10);

/// A gate whose queue filled over `span`, and the moment at which it is full.
fn full_gate(span: Duration) -> (Gate<u64>, Moment) {
    let queue = QueueSettings { max_size: 20_000, max_bytes: usize::MAX, ..QueueSettings::default() };
    let settings = Settings {
        rate_rpm: 10_000_000,
        bucket_capacity: 100,
        max_in_flight: 100_000,
        queue,
        ..Settings::default()
    };
    let mut gate = Gate::new(settings, Moment::ZERO);
    let clients: Vec<Arc<str>> = (0..CLIENTS).map(|number| format!("client {number}").into()).collect();
    let mut now = Moment::ZERO;
    for id in 0..JOBS {
        now = now + span / 10_000;
        gate.offer(candidate(id, &clients, now), id, now);
    }
    (gate, now)
}

fn candidate(id: u64, clients: &[Arc<str>], now: Moment) -> Candidate {
    let pick = usize::try_from(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33).unwrap_or_default();
    Candidate {
        id,
        priority: Priority::ALL[pick % 4],
        client: clients[(pick / 4) % clients.len()].clone(),
        model: None,
        arrived: now,
        deadline: now + Duration::from_secs(600),
        bytes: 1_000,
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision at 10,000 jobs of 500 clients");
    group.throughput(Throughput::Elements(DECISIONS));
    for (name, span) in [("fresh", Duration::from_millis(1)), ("aged", Duration::from_secs(120))] {
        let (gate, start) = full_gate(span);
        group.bench_function(format!("next, {name}, a thousand"), |bencher| {
            bencher.iter_batched(
                || gate.clone(),
                |mut gate| {
                    let mut now = start;
                    for _ in 0..DECISIONS {
                        now = now + STEP;
                        black_box(gate.next(now));
                    }
                    gate
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn whole_way(criterion: &mut Criterion) {
    let (mut gate, mut now) = full_gate(Duration::from_secs(120));
    let clients: Vec<Arc<str>> = (0..CLIENTS).map(|number| format!("client {number}").into()).collect();
    let mut id = JOBS;
    criterion.bench_function("one job's whole way at 10,000 jobs of 500 clients", |bencher| {
        bencher.iter(|| {
            now = now + STEP;
            id += 1;
            black_box(gate.offer(candidate(id, &clients, now), id, now));
            if let Next::Release { ticket, .. } = gate.next(now) {
                gate.report(ticket, Report::Sent { at: now }, now);
                let verdict = Verdict::Success;
                gate.report(ticket, Report::Answered { sent_at: now, answered_at: now, verdict }, now);
                gate.done(ticket, now);
            }
            black_box(gate.ready_at(now))
        });
    });
}

fn day(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulated day");
    group.sample_size(10);
    let mixed = scenario::scenarios(Adaptive::Learned).into_iter().find(|scenario| scenario.name == "mixed");
    if let Some(mut mixed) = mixed {
        mixed.duration = Duration::from_secs(24 * 3600);
        group.bench_function("mixed", |bencher| bencher.iter(|| engine::run(&mixed, 1)));
    }
    group.finish();
}

criterion_group!(benches, decisions, whole_way, day);
criterion_main!(benches);
