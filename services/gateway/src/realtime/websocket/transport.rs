//! A WebSocket, in and out. Waiting frames leave together: all are handed to the socket, then it is flushed once. The
//! transport pings, closes a connection that is silent or reads nothing, and enforces the limits of frames; the meaning
//! of frames is left to its user. It holds no buffers while it is idle.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream};
use metrics::Counter;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::close::{Close, close_of, code};
use crate::config::Config;
use crate::realtime::connection::End;

/// The longest time for which a client may read nothing of the written bytes.
const STALLED: Duration = Duration::from_secs(10);

/// The longest time for the client to receive a close, and to answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The same for a client that is slow: earlier frames have to leave first.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The source of the messages that a transport sends, encoded.
pub(crate) trait Outgoing {
    /// Returns the next message, or the connection's end once there is none. `None` for a frame that is not shown.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, End>>;

    /// Returns the end of the connection; wakes up when it ends, while nothing can be written.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<End>;
}

/// A frame of the client.
#[derive(Clone, Debug)]
pub(crate) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
}

/// A WebSocket, in and out. `Err(None)`, and `None` for a close, mean that the client is gone.
pub(crate) struct Transport {
    socket: WebSocket,
    config: Arc<Config>,
    timer: Pin<Box<Sleep>>,
    heard_at: Instant,
    pinged_at: Instant,
    /// True when messages have been handed to the socket and not flushed.
    unflushed: bool,
    /// The time since which the client has read nothing.
    stalled_since: Option<Instant>,
    frames_in: Counter,
    frames_out: Counter,
}

impl Transport {
    pub(crate) fn new(socket: WebSocket, config: Arc<Config>) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now + config.sockets.ping_interval));
        Self {
            socket,
            config,
            timer,
            heard_at: now,
            pinged_at: now,
            unflushed: false,
            stalled_since: None,
            frames_in: metrics::counter!("socket_frames_total", "direction" => "in"),
            frames_out: metrics::counter!("socket_frames_total", "direction" => "out"),
        }
    }

    /// Waits for the next frame, and writes only answers to pings meanwhile.
    pub(crate) async fn receive(&mut self) -> Result<Received, Option<Close>> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Returns the next frame.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Option<Close>>> {
        loop {
            let received = match std::task::ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Text(text))) => Received::Text(text),
                Some(Ok(Message::Binary(bytes))) => Received::Binary(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    self.heard_at = Instant::now();
                    continue;
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Err(None)),
                Some(Err(error)) => return Poll::Ready(Err(close_of(&error))),
            };
            self.heard_at = Instant::now();
            self.frames_in.increment(1);
            return Poll::Ready(Ok(received));
        }
    }

    /// Writes the waiting frames. Ready only when the connection is over, with the close to send.
    pub(crate) fn poll_write(
        &mut self,
        outgoing: &mut impl Outgoing,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Close>> {
        loop {
            match Pin::new(&mut self.socket).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => return self.stall(outgoing, cx),
            }
            match outgoing.poll_next(cx) {
                Poll::Ready(Ok(Some(message))) => {
                    if Pin::new(&mut self.socket).start_send(message).is_err() {
                        return Poll::Ready(None);
                    }
                    self.frames_out.increment(1);
                    self.unflushed = true;
                    self.stalled_since = None;
                }
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(Some(end.into())),
                Poll::Pending => break,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    self.stalled_since = None;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => return self.stall(outgoing, cx),
            }
        }
        Poll::Pending
    }

    /// Handles a client that reads nothing at the moment; the queue fills up, and may overflow meanwhile.
    fn stall(&mut self, outgoing: &mut impl Outgoing, cx: &mut Context<'_>) -> Poll<Option<Close>> {
        if self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
            self.reset_timer();
        }
        match outgoing.poll_ended(cx) {
            Poll::Ready(end @ (End::TooSlow | End::SignedOut)) => Poll::Ready(Some(end.into())),
            // Waiting frames are written before it ends.
            Poll::Ready(End::Restart { .. } | End::Gone) | Poll::Pending => Poll::Pending,
        }
    }

    /// Pings when it is due. Ready with `Ok` when something may have to be written now, and with the close to send when
    /// the client is silent or reads nothing.
    pub(crate) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Option<Close>>> {
        std::task::ready!(self.timer.as_mut().poll(cx));
        let outcome = self.tick();
        self.reset_timer();
        Poll::Ready(outcome)
    }

    fn reset_timer(&mut self) {
        let config = &self.config.sockets;
        let next = (self.pinged_at + config.ping_interval).min(self.heard_at + config.idle_timeout);
        let next = self.stalled_since.map_or(next, |since| next.min(since + STALLED));
        self.timer.as_mut().reset(next);
    }

    fn tick(&mut self) -> Result<(), Option<Close>> {
        let (now, config) = (Instant::now(), &self.config.sockets);
        if self.stalled_since.is_some_and(|since| now >= since + STALLED) {
            return Err(Some(End::TooSlow.into()));
        }
        if now >= self.heard_at + config.idle_timeout {
            return Err(Some(End::Gone.into()));
        }
        if now >= self.pinged_at + config.ping_interval {
            self.pinged_at = now;
            // A stalled client has unread bytes already.
            if self.stalled_since.is_none() {
                Pin::new(&mut self.socket).start_send(Message::Ping(Bytes::new())).map_err(|_| None)?;
                self.unflushed = true;
            }
        }
        Ok(())
    }

    /// Sends the error and the close, and gives the client a moment to receive them. `None` confirms the client's own
    /// close, if it was one. `encode` makes the last frame from the error of the close.
    pub(crate) async fn close(
        mut self,
        close: Option<Close>,
        encode: impl FnOnce(&Status) -> Option<Message>,
    ) {
        let Some(close) = close else {
            return drop(tokio::time::timeout(CLOSE_TIMEOUT, self.socket.flush()).await);
        };
        metrics::counter!("sockets_closed_total", "reason" => close.why).increment(1);
        let patience = if close.code == code::TOO_SLOW { SLOW_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
        let closing = async {
            if let Some(message) = close.error.as_ref().and_then(encode) {
                let _ = self.socket.feed(message).await;
            }
            let frame = CloseFrame { code: close.code, reason: close.why.into() };
            self.socket.send(Message::Close(Some(frame))).await
        };
        // There is no wait for a client that does not read.
        if matches!(tokio::time::timeout(patience, closing).await, Ok(Ok(()))) {
            // Dropping a socket that has unread data would cut off the last frames.
            let answer = async { while let Some(Ok(_)) = self.socket.recv().await {} };
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, answer).await;
        }
    }
}
