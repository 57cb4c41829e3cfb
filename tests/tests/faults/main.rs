//! What Parlor survives: processes, the bus and the database are killed under load, and the histories of all clients are
//! checked against what is there in the end. Every test prints its figures, one per line.
//!
//! `PARLOR_TEST_PROFILE=long` does the same for longer and more often.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: what cannot go on ends them, and they say why"
)]

mod bookings;
mod calls;
mod crashes;
mod departures;
mod dialects;
mod drains;
mod fragile;
mod load;
mod outages;
mod reader;
mod reminders;
mod replicas;
mod requests;
mod restores;
mod rooms;
mod schedules;
mod settled;
mod writer;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use tests::storage::Cluster;
use tests::world::WITHOUT_LIMITS;
use tests::{Shape, World};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test has processes of its own, and waits most of the time; more than two would be in each other's way.
    arguments.test_threads.get_or_insert(2);
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let mut trials = vec![
        trial(&runtime, "any_process_may_crash", crashes::any_process_may_crash),
        trial(&runtime, "the_only_process_may_crash", crashes::the_only_process_may_crash),
        trial(&runtime, "the_bus_may_be_away", outages::the_bus_may_be_away),
        trial(
            &runtime,
            "a_service_that_is_down_is_told_at_once",
            outages::a_service_that_is_down_is_told_at_once,
        ),
        trial(&runtime, "scheduled_messages_are_sent_once", schedules::scheduled_messages_are_sent_once),
        trial(&runtime, "any_process_may_be_restarted", drains::any_process_may_be_restarted),
        trial(
            &runtime,
            "with_one_of_two_dead_the_rest_goes_on",
            replicas::with_one_of_two_dead_the_rest_goes_on,
        ),
        trial(&runtime, "a_rolling_restart_fails_no_request", replicas::a_rolling_restart_fails_no_request),
        trial(
            &runtime,
            "a_backup_made_under_load_is_restored",
            restores::a_backup_made_under_load_is_restored,
        ),
        trial(&runtime, "a_dump_of_postgresql_is_restored", restores::a_dump_of_postgresql_is_restored),
        trial(
            &runtime,
            "an_older_database_of_one_service_is_noticed",
            restores::an_older_database_of_one_service_is_noticed,
        ),
        trial(
            &runtime,
            "who_has_talked_is_known_once_auth_is_back",
            calls::who_has_talked_is_known_once_auth_is_back,
        ),
    ];
    for shape in [Shape::Embedded, Shape::Separate] {
        trials.extend([
            shaped(&runtime, shape, "a_call_outlives_its_service", calls::a_call_outlives_its_service),
            shaped(
                &runtime,
                shape,
                "a_call_that_is_over_by_its_time_is_missed",
                calls::a_call_that_is_over_by_its_time_is_missed,
            ),
            shaped(
                &runtime,
                shape,
                "a_booking_is_whole_or_not_at_all",
                bookings::a_booking_is_whole_or_not_at_all,
            ),
            shaped(&runtime, shape, "both_are_reminded_once", reminders::both_are_reminded_once),
            shaped(&runtime, shape, "a_request_is_one_for_both", requests::a_request_is_one_for_both),
            shaped(&runtime, shape, "a_ban_outlives_its_service", rooms::a_ban_outlives_its_service),
            shaped(
                &runtime,
                shape,
                "a_watcher_comes_back_after_a_crash",
                rooms::a_watcher_comes_back_after_a_crash,
            ),
            shaped(
                &runtime,
                shape,
                "an_account_is_erased_to_the_end",
                departures::an_account_is_erased_to_the_end,
            ),
            shaped(
                &runtime,
                shape,
                "messages_of_allo_that_wait_outlive_their_services",
                dialects::messages_of_allo_that_wait_outlive_their_services,
            ),
            shaped(
                &runtime,
                shape,
                "messages_of_allo_that_are_due_meanwhile_end_as_they_should",
                dialects::messages_of_allo_that_are_due_meanwhile_end_as_they_should,
            ),
        ]);
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial<F: Future<Output = ()> + 'static>(runtime: &Arc<Runtime>, name: &str, test: fn() -> F) -> Trial {
    let runtime = runtime.clone();
    Trial::test(name, move || {
        runtime.block_on(test());
        Ok(())
    })
}

/// A test that runs in both shapes, in one of them.
fn shaped<F: Future<Output = ()> + 'static>(
    runtime: &Arc<Runtime>,
    shape: Shape,
    name: &str,
    test: fn(Shape) -> F,
) -> Trial {
    let runtime = runtime.clone();
    Trial::test(format!("{}::{name}", shape.name()), move || {
        runtime.block_on(test(shape));
        Ok(())
    })
}

/// Whether there is time for more of everything.
fn is_long() -> bool {
    std::env::var("PARLOR_TEST_PROFILE").is_ok_and(|profile| profile == "long")
}

/// A world of separate processes on a PostgreSQL and a NATS of its own.
struct Separate {
    world: World,
    cluster: Cluster,
    database: String,
}

impl Separate {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings besides those that lift the limits.
    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::start().await.expect("a PostgreSQL and a NATS");
        let database = cluster.postgres.database().await.expect("a database");
        let world =
            World::separate_with(&database, &cluster.nats.url(), &[WITHOUT_LIMITS, settings].concat())
                .await
                .expect("a world");
        Self { world, cluster, database }
    }

    /// Kills something as a crash does.
    fn kill(&mut self, victim: &str) {
        match victim {
            "nats" => self.cluster.nats.kill(),
            "postgres" => self.cluster.postgres.kill().expect("a killed PostgreSQL"),
            process => self.world.process(process).kill(),
        }
    }

    /// Starts it again, and waits until it is ready.
    async fn start_again(&mut self, victim: &str) {
        match victim {
            "nats" => self.cluster.nats.start_again(),
            "postgres" => self.cluster.postgres.start_again().await,
            process => self.world.process(process).start_again().await,
        }
        .unwrap_or_else(|error| panic!("{victim} does not start again: {error:#}"));
    }
}

/// Lets time pass while others work.
async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

/// No process may have panicked, whatever was done to the others.
fn assert_no_panics(world: &World) {
    let panics: Vec<String> =
        world.errors().into_iter().filter(|line| line.contains("panicked at")).collect();
    assert!(panics.is_empty(), "{}", panics.join("\n"));
}
