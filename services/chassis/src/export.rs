//! Exports: what a service keeps about a person, as files that a program can read, streamed in small pieces.
//!
//! The handler of `ExportUserData` reads page by page and puts message after message into an [`Archive`]; whoever reads
//! the stream sets the pace, and one piece is in memory at a time. JSON files hold one message in proto JSON, NDJSON
//! files one per line. The shape is that of the gateway's answers, so a file reads like the API.
//!
//! ```text
//! let pieces = export::stream(
//!     |Piece { path, data }| pb::ExportUserDataResponse { path, data },
//!     move |mut archive| async move {
//!         archive.json("auth/user.json", "parlor.auth.v1.User", &user).await?;
//!         archive.lines("auth/reviews_written.ndjson").await?;
//!         for review in page {
//!             archive.line("parlor.auth.v1.Review", &review).await?;
//!         }
//!         archive.finish().await
//!     },
//! );
//! ```

use std::future::{Future, ready};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::fault::Fault;

/// The most bytes of a file in one piece.
pub const PIECE: usize = 64 * 1024;

/// As the gateway writes: fields that cannot be absent are always there.
const OUT: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The file's path in the archive. Pieces of a file follow one another.
    pub path: String,
    /// At most [`PIECE`] bytes; none at all for a file without content.
    pub data: Vec<u8>,
}

/// The files of one person, as they are written.
#[derive(Debug)]
pub struct Archive {
    pieces: mpsc::Sender<Piece>,
    path: String,
    /// What has not been sent yet of the file.
    waiting: Vec<u8>,
    /// Whether a piece of the file was sent.
    begun: bool,
}

/// Runs `write` with an empty archive, and streams what it writes. It runs only while somebody reads the stream, and its
/// failure ends the stream with that status.
pub fn stream<R, W, F>(
    render: impl Fn(Piece) -> R + Send + 'static,
    write: W,
) -> BoxStream<'static, Result<R, Status>>
where
    R: Send + 'static,
    W: FnOnce(Archive) -> F,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, pieces) = mpsc::channel(1);
    let archive = Archive { pieces: sender, path: String::new(), waiting: Vec::new(), begun: false };
    let pieces = ReceiverStream::new(pieces).map(move |piece| Ok(render(piece)));
    // Nothing comes of it but its failure. Driven by the reader of the stream, it needs no task and ends with it.
    let writing = stream::once(write(archive)).filter_map(|done| ready(done.err().map(Err)));
    stream::select(pieces, writing).boxed()
}

impl Archive {
    /// Writes a file that holds one message. `name` is the full name of its type, such as `parlor.auth.v1.User`.
    ///
    /// # Errors
    /// When nobody reads the stream any more, and INTERNAL when the contract has no such type.
    pub async fn json<M: Message>(&mut self, path: &str, name: &str, message: &M) -> Result<(), Status> {
        self.begin(path).await?;
        self.put(&json(name, message)?).await
    }

    /// Begins a file with one message per line. A file without lines is there too, and empty.
    ///
    /// # Errors
    /// When nobody reads the stream any more.
    pub async fn lines(&mut self, path: &str) -> Result<(), Status> {
        self.begin(path).await
    }

    /// Writes a line of the file that was begun last.
    ///
    /// # Errors
    /// As [`Archive::json`].
    pub async fn line<M: Message>(&mut self, name: &str, message: &M) -> Result<(), Status> {
        let mut line = json(name, message)?;
        line.push(b'\n');
        self.put(&line).await
    }

    /// Sends what is left of the last file. Without it the last file is cut short.
    ///
    /// # Errors
    /// When nobody reads the stream any more.
    pub async fn finish(mut self) -> Result<(), Status> {
        self.end().await
    }

    async fn begin(&mut self, path: &str) -> Result<(), Status> {
        self.end().await?;
        path.clone_into(&mut self.path);
        self.begun = false;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Status> {
        let is_due = !self.path.is_empty() && (!self.waiting.is_empty() || !self.begun);
        if is_due { self.send().await } else { Ok(()) }
    }

    async fn put(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while self.waiting.len() + bytes.len() > PIECE {
            let (now, later) = bytes.split_at(PIECE - self.waiting.len());
            self.waiting.extend_from_slice(now);
            bytes = later;
            self.send().await?;
        }
        self.waiting.extend_from_slice(bytes);
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Status> {
        self.begun = true;
        let piece = Piece { path: self.path.clone(), data: std::mem::take(&mut self.waiting) };
        let sent = self.pieces.send(piece).await;
        sent.map_err(|_| Status::cancelled("nobody reads the export any more"))
    }
}

/// A message in proto JSON.
fn json<M: Message>(name: &str, message: &M) -> Result<Vec<u8>, Status> {
    let write = || {
        let descriptor = proto::pool().get_message_by_name(name)?;
        let mut dynamic = DynamicMessage::new(descriptor);
        dynamic.transcode_from(message).ok()?;
        let mut text = Vec::with_capacity(256);
        dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &OUT).ok()?;
        Some(text)
    };
    write().ok_or_else(|| {
        tracing::error!(message = name, "a {name} cannot be written as JSON");
        Fault::internal().into()
    })
}

#[cfg(test)]
mod tests {
    use proto::auth::v1::GetUserRequest;
    use tonic::Code;

    use super::*;

    const NAME: &str = "parlor.auth.v1.GetUserRequest";

    fn message(text: &str) -> GetUserRequest {
        GetUserRequest { user_id: text.to_owned() }
    }

    async fn collect<F>(write: impl FnOnce(Archive) -> F) -> Vec<Result<Piece, Code>>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        stream(|piece| piece, write).map(|piece| piece.map_err(|status| status.code())).collect().await
    }

    #[tokio::test]
    async fn files_come_one_after_the_other() {
        let pieces = collect(|mut archive| async move {
            archive.json("a/one.json", NAME, &message("ä\n")).await?;
            archive.lines("a/none.ndjson").await?;
            archive.lines("a/two.ndjson").await?;
            archive.line(NAME, &message("1")).await?;
            archive.line(NAME, &message("")).await?;
            archive.finish().await
        });
        let files: Vec<_> = pieces.await.into_iter().map(|piece| piece.unwrap()).collect();
        let texts: Vec<_> = files.iter().map(|Piece { path, data }| (&**path, &**data)).collect();
        let two = b"{\"userId\":\"1\"}\n{\"userId\":\"\"}\n";
        assert_eq!(
            texts,
            [
                ("a/one.json", "{\"userId\":\"ä\\n\"}".as_bytes()),
                ("a/none.ndjson", b"".as_slice()),
                ("a/two.ndjson", two.as_slice()),
            ]
        );
    }

    #[tokio::test]
    async fn a_large_file_comes_in_pieces_that_are_not() {
        let (one, many) = ("x".repeat(200_000), 5_000);
        let pieces = collect({
            let one = one.clone();
            move |mut archive| async move {
                archive.json("one.json", NAME, &message(&one)).await?;
                archive.lines("many.ndjson").await?;
                for n in 0..many {
                    archive.line(NAME, &message(&format!("{n:0>50}"))).await?;
                }
                archive.finish().await
            }
        });
        let pieces: Vec<_> = pieces.await.into_iter().map(|piece| piece.unwrap()).collect();
        assert!(pieces.iter().all(|piece| (1..=PIECE).contains(&piece.data.len())));
        assert!(pieces.is_sorted_by_key(|piece| piece.path == "many.ndjson"));
        let file = |path: &str| {
            let of_it = pieces.iter().filter(|piece| piece.path == path);
            String::from_utf8(of_it.flat_map(|piece| piece.data.clone()).collect()).unwrap()
        };
        assert_eq!(file("one.json"), format!("{{\"userId\":\"{one}\"}}"));
        let lines = file("many.ndjson");
        assert_eq!(lines.lines().count(), many);
        assert_eq!(lines.lines().last().unwrap(), format!("{{\"userId\":\"{:0>50}\"}}", many - 1));
    }

    #[tokio::test]
    async fn a_failure_ends_the_stream() {
        let pieces = collect(|mut archive| async move {
            archive.json("one.json", NAME, &message("1")).await?;
            archive.json("two.json", "parlor.auth.v1.Nothing", &message("2")).await?;
            archive.finish().await
        });
        assert!(pieces.await.contains(&Err(Code::Internal)));
    }

    #[tokio::test]
    async fn whoever_leaves_stops_the_writer() {
        let (sender, mut written) = mpsc::channel(100);
        let mut pieces = stream(
            |piece| piece,
            move |mut archive| async move {
                for n in 0..100 {
                    archive.json(&format!("{n}.json"), NAME, &message("1")).await?;
                    sender.send(n).await.map_err(|_| Status::cancelled("gone"))?;
                }
                archive.finish().await
            },
        );
        assert_eq!(pieces.next().await.unwrap().unwrap().path, "0.json");
        drop(pieces);
        let mut count = 0;
        while written.recv().await.is_some() {
            count += 1;
        }
        assert!(count < 10, "{count} files were written for nobody");
    }
}
