//! How fast the two worlds are: five nodes, heartbeats every 50 ms, two writes a second, no faults.
//!
//! Each measurement is printed as criterion's throughput: elements are simulated seconds ("real time")
//! or events of the pure world. Everything runs on one core.

use core::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use rivven_sim::app::KeyValueApp;
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::shape::Shape;
use rivven_sim::world::pure::World;
use rivven_sim::world::{Options, Report, turmoil};

fn pure(seconds: u64, is_watched: bool) -> Report {
    let scenario = Scenario::calm(1, WorldKind::Pure, Shape::light(seconds));
    let app = KeyValueApp::new(&scenario.shape);
    let world = World::new(scenario, app, Options::default());
    if is_watched { world.run() } else { world.unwatched().run() }
}

fn hosts(seconds: u64, tick: Duration) -> Report {
    let scenario = Scenario::calm(1, WorldKind::Turmoil, Shape::light(seconds));
    let mut report = Report::default();
    turmoil::run_with_tick(&scenario, Options::default(), &mut report, tick);
    report
}

/// Measures a run twice: by its simulated seconds and by its events.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, run: impl Fn() -> Report) {
    let report = run();
    assert_eq!(report.violation, None);
    group.throughput(Throughput::Elements(report.simulated.as_secs()));
    group.bench_function(format!("{name}/simulated seconds"), |bencher| bencher.iter(&run));
    if report.events > 0 {
        group.throughput(Throughput::Elements(report.events));
        group.bench_function(format!("{name}/events"), |bencher| bencher.iter(&run));
    }
}

fn worlds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worlds");
    group.sample_size(10);
    measure(&mut group, "pure, unwatched", || pure(600, false));
    measure(&mut group, "pure, checkers and trace", || pure(600, true));
    measure(&mut group, "turmoil, 1 ms tick", || hosts(60, Duration::from_millis(1)));
    measure(&mut group, "turmoil, 5 ms tick", || hosts(60, Duration::from_millis(5)));
    group.finish();
}

criterion_group!(benches, worlds);
criterion_main!(benches);
