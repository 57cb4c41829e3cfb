//! Knowing when the server has taken in what it was told.

use std::future::Future;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Line;

/// How long an echo may take before it is asked for again.
const ECHO: Duration = Duration::from_secs(1);

/// Finds out when the server has taken in everything it was told so far: it is asked for an echo, and it does one thing
/// after the other. All who wait at the same time share one echo.
#[derive(Clone)]
pub(super) struct Barrier(mpsc::UnboundedSender<oneshot::Sender<()>>);

impl Barrier {
    pub(super) fn new(line: Line) -> (Self, impl Future<Output = ()>) {
        let (sender, requests) = mpsc::unbounded_channel();
        (Self(sender), echoes(line, requests))
    }

    /// Waits until everything that this process told NATS before the call has come into effect, over a reconnect if need
    /// be. Never returns when the server does not echo.
    pub(super) async fn pass(&self) {
        let (sender, echoed) = oneshot::channel();
        if self.0.send(sender).is_err() || echoed.await.is_err() {
            // The bus is gone, and whoever waits is about to go with it.
            std::future::pending::<()>().await;
        }
    }
}

async fn echoes(line: Line, mut requests: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let inbox = Subject::from(line.client.new_inbox());
    let mut echoes = match line.client.subscribe(inbox.clone()).await {
        Ok(echoes) => echoes,
        Err(error) => return tracing::error!(%error, "cannot listen to the echoes of NATS"),
    };
    let mut waiting = Vec::new();
    let mut round: u64 = 0;
    while requests.recv_many(&mut waiting, usize::MAX).await > 0 {
        round += 1;
        loop {
            if !line.is_up() {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            let call = Bytes::copy_from_slice(&round.to_be_bytes());
            if line.client.publish(inbox.clone(), call.clone()).await.is_err() {
                return;
            }
            let echo = async { while echoes.next().await.is_some_and(|echo| echo.payload != call) {} };
            if timeout(ECHO, echo).await.is_ok() {
                break;
            }
        }
        for waiter in waiting.drain(..) {
            let _ = waiter.send(());
        }
    }
}
