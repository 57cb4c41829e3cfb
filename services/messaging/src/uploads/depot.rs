//! Where the bytes of files are: in a folder, or in a bucket of a server that speaks S3.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::{BoxStream, StreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
    WriteMultipart,
};
use proto::id::{ObjectId, UploadId};

use super::config::{Place, S3Config, UploadsConfig};
use super::connector::Connector;
use crate::error::Error;

/// What is larger goes to a folder in parts of this size while it comes.
const FOLDER_PART: usize = 256 << 10;

/// What is larger goes to a bucket in parts of at least this size while it comes: S3 takes no smaller ones.
const BUCKET_PART: usize = 5 << 20;

/// S3 takes no more parts of one object.
const BUCKET_PARTS: usize = 10_000;

/// Where the bytes of files are.
#[derive(Clone, Debug)]
pub struct Depot {
    store: Arc<dyn ObjectStore>,
    kind: Kind,
}

/// The way in which an object is cut.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Folder,
    Bucket,
}

impl Kind {
    /// The size of the parts of an object of this size. So much of it is in memory before the first part goes.
    fn part(self, size: i64) -> usize {
        match self {
            Self::Folder => FOLDER_PART,
            Self::Bucket => {
                BUCKET_PART.max(usize::try_from(size).unwrap_or(usize::MAX).div_ceil(BUCKET_PARTS))
            }
        }
    }

    /// The number of parts of an object that are on their way at a time.
    const fn parts_at_once(self) -> usize {
        match self {
            Self::Folder => 2,
            Self::Bucket => 1,
        }
    }
}

impl Depot {
    /// Opens the place that the configuration names.
    pub fn open(config: &UploadsConfig) -> anyhow::Result<Self> {
        match config.place()? {
            Place::Folder(folder) => Self::in_folder(&folder),
            Place::Bucket { bucket, prefix } => Self::in_bucket(&bucket, &prefix, &config.s3),
        }
    }

    fn in_folder(folder: &PathBuf) -> anyhow::Result<Self> {
        let context = || format!("uploads.url: the folder {} cannot be used", folder.display());
        let mut making = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut making, 0o700);
        making.recursive(true).create(folder).with_context(context)?;
        let store = LocalFileSystem::new_with_prefix(folder).with_context(context)?;
        // What was acknowledged is there after a power cut.
        Ok(Self { store: Arc::new(store.with_fsync(true)), kind: Kind::Folder })
    }

    fn in_bucket(bucket: &str, prefix: &str, config: &S3Config) -> anyhow::Result<Self> {
        let is_plain = config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&config.region)
            .with_access_key_id(&config.key_id)
            .with_secret_access_key(config.secret()?.expose())
            .with_allow_http(is_plain)
            .with_http_connector(Connector { is_plain })
            // Somebody waits: better to be told soon.
            .with_retry(RetryConfig {
                backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
                max_retries: 3,
                retry_timeout: Duration::from_secs(30),
            });
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().context("uploads.s3 does not fit together")?;
        Ok(Self { store: Arc::new(PrefixStore::new(store, prefix)), kind: Kind::Bucket })
    }

    /// Begins an object of this size.
    pub fn writer(&self, object: ObjectId, size: i64) -> Writer {
        let part = self.kind.part(size);
        Writer { depot: self.clone(), path: path(object), part, first: Vec::new(), held: 0, rest: None }
    }

    /// A part of an object.
    pub async fn read(
        &self,
        upload: UploadId,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        match self.store.get_opts(&path(object), options).await {
            Ok(found) => Ok(found.into_stream().map_err(failed).boxed()),
            // Swept away a moment ago.
            Err(object_store::Error::NotFound { .. }) => Err(Error::UploadNotFound(upload)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes an object, if it is there.
    pub async fn remove(&self, object: ObjectId) -> Result<(), Error> {
        match self.store.delete(&path(object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

/// The last digits of the ids are evenly spread: no folder gets too full.
fn path(object: ObjectId) -> Path {
    let id = object.to_string();
    Path::from_iter([&id[id.len() - 2..], &id])
}

fn failed(error: object_store::Error) -> Error {
    tracing::warn!(%error, "the bytes of files cannot be reached: {error}");
    Error::Unavailable("the place of files")
}

/// An object that is being written.
pub struct Writer {
    depot: Depot,
    path: Path,
    part: usize,
    /// What has come as long as it is less than a part.
    first: Vec<Bytes>,
    held: usize,
    /// Takes everything once it is more.
    rest: Option<WriteMultipart>,
}

impl Writer {
    /// Adds bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        if let Some(rest) = &mut self.rest {
            rest.wait_for_capacity(self.depot.kind.parts_at_once()).await.map_err(failed)?;
            rest.put(bytes);
            return Ok(());
        }
        self.held += bytes.len();
        self.first.push(bytes);
        if self.held > self.part {
            let begun = self.depot.store.put_multipart(&self.path).await.map_err(failed)?;
            let mut rest = WriteMultipart::new_with_chunk_size(begun, self.part);
            self.first.drain(..).for_each(|bytes| rest.put(bytes));
            self.rest = Some(rest);
        }
        Ok(())
    }

    /// Ends it: from now on it can be read.
    pub async fn finish(self) -> Result<(), Error> {
        match self.rest {
            Some(rest) => rest.finish().await.map_err(failed)?,
            None => {
                self.depot.store.put(&self.path, PutPayload::from_iter(self.first)).await.map_err(failed)?
            }
        };
        Ok(())
    }

    /// Gives it up. Nothing of it can be read, then or later.
    pub async fn abort(self) {
        if let Some(rest) = self.rest
            && let Err(error) = rest.abort().await
        {
            // The parts stay in a bucket until its own rules remove them.
            failed(error);
        }
    }
}

/// Test support: an S3 server, where there is one.
#[cfg(test)]
pub mod testing {
    use chassis::config::Secret;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Names the S3 server for tests: `http://127.0.0.1:5000`.
    const S3: &str = "PARLOR_TEST_S3";

    /// The settings of a fresh bucket; `None`, with a word why, when there is no server.
    pub async fn bucket() -> Option<UploadsConfig> {
        let Ok(endpoint) = std::env::var(S3) else {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            eprintln!("SKIPPED on S3: {test} ({S3} names no server; tests/run starts one)");
            return None;
        };
        let host = endpoint.trim_start_matches("http://").to_owned();
        let bucket = format!("parlor-{}", ObjectId::generate());
        let mut server = TcpStream::connect(&host).await.unwrap();
        let request = format!(
            "PUT /{bucket} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        server.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        server.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let s3 = S3Config {
            endpoint: Some(endpoint),
            key_id: "somebody".to_owned(),
            secret: Some(Secret::new("a secret")),
            ..S3Config::default()
        };
        Some(UploadsConfig { url: Some(format!("s3://{bucket}/files")), s3, ..UploadsConfig::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every place of bytes has to do.
    async fn keeps_its_promises(depot: Depot) {
        let upload = UploadId::generate();
        // One that comes at once, one in parts, and one of nothing.
        for size in [5, depot.kind.part(0) * 2 + 12_345, 0] {
            let object = ObjectId::generate();
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let mut writer = depot.writer(object, size as i64);
            for piece in bytes.chunks(100_000) {
                writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
                assert!(writer.held <= depot.kind.part(0) + 100_000, "the rest is not held in memory");
            }
            assert_eq!(writer.rest.is_some(), size > depot.kind.part(0));
            assert!(read(&depot, object, 0..1).await.is_none(), "nothing is there before the end");
            writer.finish().await.unwrap();
            if size > 0 {
                assert!(read(&depot, object, 0..size as u64).await.as_deref() == Some(&bytes[..]));
                let end = size as u64;
                assert_eq!(read(&depot, object, end - 3..end).await.as_deref(), Some(&bytes[size - 3..]));
                assert_eq!(read(&depot, object, 1..2).await.as_deref(), Some(&bytes[1..2]));
            }
            depot.remove(object).await.unwrap();
            depot.remove(object).await.expect("twice is once");
            let gone = depot.read(upload, object, 0..1).await.err().expect("nothing there");
            assert!(matches!(gone, Error::UploadNotFound(id) if id == upload));
        }
        for size in [5, depot.kind.part(0) * 2] {
            let object = ObjectId::generate();
            let mut writer = depot.writer(object, size as i64);
            writer.write(Bytes::from(vec![1; size])).await.unwrap();
            writer.abort().await;
            assert!(read(&depot, object, 0..1).await.is_none(), "what was given up is not there");
        }
    }

    async fn read(depot: &Depot, object: ObjectId, range: Range<u64>) -> Option<Vec<u8>> {
        let stream = depot.read(UploadId::generate(), object, range).await.ok()?;
        Some(stream.try_collect::<Vec<_>>().await.unwrap().concat())
    }

    #[tokio::test]
    async fn a_folder_keeps_its_promises() {
        let folder = tempfile::tempdir().unwrap();
        // Not there yet.
        let url = Some(format!("file://{}", folder.path().join("some/where").display()));
        let config = UploadsConfig { url, ..UploadsConfig::default() };
        keeps_its_promises(Depot::open(&config).unwrap()).await;
    }

    #[tokio::test]
    async fn a_bucket_keeps_its_promises() {
        let Some(config) = testing::bucket().await else { return };
        keeps_its_promises(Depot::open(&config).unwrap()).await;
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_not_available() {
        let s3 = S3Config {
            // Nobody listens at this port.
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            key_id: "somebody".to_owned(),
            secret: Some(chassis::config::Secret::new("a secret")),
            ..S3Config::default()
        };
        let config = UploadsConfig { url: Some("s3://bucket".to_owned()), s3, ..UploadsConfig::default() };
        let depot = Depot::open(&config).unwrap();
        let mut writer = depot.writer(ObjectId::generate(), 3);
        writer.write(Bytes::from_static(b"abc")).await.unwrap();
        assert!(matches!(writer.finish().await, Err(Error::Unavailable(_))));
    }

    #[test]
    fn parts_are_small_and_a_large_object_has_not_too_many() {
        assert_eq!((Kind::Folder.part(64 << 30), Kind::Bucket.part(5)), (FOLDER_PART, BUCKET_PART));
        let large: i64 = 64 << 30;
        let part = Kind::Bucket.part(large);
        assert!((large as usize).div_ceil(part) <= BUCKET_PARTS && part < 8 << 20);
    }

    #[test]
    fn a_place_that_cannot_be_used_is_refused_at_the_start() {
        let at = |url: &str| UploadsConfig { url: Some(url.to_owned()), ..UploadsConfig::default() };
        assert!(Depot::open(&at("file:///dev/null/uploads")).is_err());
        assert!(Depot::open(&at("s3://bucket")).is_err(), "there is no key");
    }
}
