//! What can be set about files.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chassis::config::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::media::MediaTypes;

/// Where the bytes of files are, and which files there may be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UploadsConfig {
    /// `file://<folder>`, made when it is missing and the same one for all replicas, or `s3://<bucket>/<prefix>`. Absent
    /// means the folder `uploads`: in `data_folder` for all in one process, in `data` otherwise.
    pub url: Option<String>,
    /// What stands before the addresses of bytes, such as `https://chat.example`; absent for addresses relative to the
    /// gateway.
    pub base_url: Option<String>,
    /// The largest file, in bytes. The gateway has a bound of its own, `max_upload_bytes`.
    pub max_bytes: u64,
    /// The media types that are taken, such as `application/pdf` or `image/*`.
    pub media_types: Vec<String>,
    /// How many files of one user may wait for their bytes at a time.
    pub max_pending: u32,
    /// How many files a process writes at a time; one more is refused with 503. Each keeps less than a megabyte in memory
    /// on its way to a folder, and up to 10 MiB on its way to a bucket.
    pub max_writers: u32,
    /// How many files of one user a process writes at a time; one more is refused with 429.
    pub max_writers_per_user: u32,
    /// How long the next bytes of a file may take to come, such as `30s`, and how much longer all of them may take than
    /// `min_bytes_per_second` allows. What is slower is refused with 408.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_silence: Duration,
    /// How fast the bytes of a file have to come on the whole.
    pub min_bytes_per_second: u64,
    /// How many bytes a user may bring on a day (UTC); more are refused with 429. Every attempt counts as many as its file
    /// has.
    pub max_bytes_per_day: u64,
    /// The same for guests.
    pub max_bytes_per_day_of_guests: u64,
    /// How many bytes of a user are stored; more are refused with 413. What no message refers to counts until it is swept.
    pub max_stored_bytes: u64,
    /// The same for guests.
    pub max_stored_bytes_of_guests: u64,
    /// What is needed for `s3://`.
    pub s3: S3Config,
}

/// How to reach buckets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// The server, such as `https://s3.example`; absent means Amazon's for the region. `http://` is for a private network:
    /// the bytes travel in the clear.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// The id of the access key.
    pub key_id: String,
    /// Its secret.
    pub secret: Option<Secret>,
    /// A file with the secret, readable by its owner only.
    pub secret_file: Option<PathBuf>,
}

impl Default for UploadsConfig {
    fn default() -> Self {
        let media_types = [
            "image/*",
            "audio/*",
            "video/*",
            "application/pdf",
            "text/plain",
            "application/zip",
            "application/octet-stream",
        ];
        Self {
            url: None,
            base_url: None,
            max_bytes: 50 << 20,
            media_types: media_types.map(str::to_owned).to_vec(),
            max_pending: 20,
            max_writers: 64,
            max_writers_per_user: 3,
            max_silence: Duration::from_secs(30),
            min_bytes_per_second: 8 << 10,
            max_bytes_per_day: 2 << 30,
            max_bytes_per_day_of_guests: 100 << 20,
            max_stored_bytes: 10 << 30,
            max_stored_bytes_of_guests: 200 << 20,
            s3: S3Config::default(),
        }
    }
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            key_id: String::new(),
            secret: None,
            secret_file: None,
        }
    }
}

/// Where bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket, all under a prefix.
    Bucket {
        /// Its name.
        bucket: String,
        /// May be empty.
        prefix: String,
    },
}

impl UploadsConfig {
    /// Refuses what cannot work.
    pub fn check(&self) -> anyhow::Result<()> {
        self.place()?;
        MediaTypes::parse(&self.media_types)?;
        // A file has to end in one go of at most ten thousand parts, and its size is a number of the database.
        ensure!(
            (1..=64 << 30).contains(&self.max_bytes),
            "uploads.max_bytes must be between 1 and 68719476736"
        );
        for (name, value) in [
            ("max_pending", u64::from(self.max_pending)),
            ("max_writers", u64::from(self.max_writers)),
            ("max_writers_per_user", u64::from(self.max_writers_per_user)),
            ("min_bytes_per_second", self.min_bytes_per_second),
            ("max_bytes_per_day", self.max_bytes_per_day),
            ("max_bytes_per_day_of_guests", self.max_bytes_per_day_of_guests),
            ("max_stored_bytes", self.max_stored_bytes),
            ("max_stored_bytes_of_guests", self.max_stored_bytes_of_guests),
        ] {
            ensure!(value >= 1, "uploads.{name} must be at least 1");
            ensure!(i64::try_from(value).is_ok(), "uploads.{name} must be at most {}", i64::MAX);
        }
        ensure!(!self.max_silence.is_zero(), "uploads.max_silence must be more than nothing");
        let base_url = self.base_url.as_deref().unwrap_or("https://");
        ensure!(
            base_url.starts_with("https://") || base_url.starts_with("http://"),
            "uploads.base_url must begin with https://"
        );
        Ok(())
    }

    /// Where the bytes are to be.
    pub fn place(&self) -> anyhow::Result<Place> {
        let url = self.url.as_deref().unwrap_or("file://data/uploads");
        if let Some(folder) = url.strip_prefix("file://") {
            ensure!(!folder.is_empty(), "uploads.url has no folder");
            return Ok(Place::Folder(PathBuf::from(folder)));
        }
        let rest = url.strip_prefix("s3://").context("uploads.url must begin with file:// or s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!bucket.is_empty(), "uploads.url has no bucket");
        Ok(Place::Bucket { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

impl S3Config {
    /// The secret of the access key.
    pub fn secret(&self) -> anyhow::Result<Secret> {
        ensure!(!self.key_id.is_empty(), "uploads.s3.key_id must be set");
        match (&self.secret, &self.secret_file) {
            (Some(secret), None) => Ok(secret.clone()),
            (None, Some(path)) => Secret::read(path),
            (None, None) => anyhow::bail!("uploads.s3.secret or uploads.s3.secret_file must be set"),
            (Some(_), Some(_)) => anyhow::bail!("set uploads.s3.secret or uploads.s3.secret_file, not both"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> UploadsConfig {
        UploadsConfig { url: Some(url.to_owned()), ..UploadsConfig::default() }
    }

    #[test]
    fn an_address_is_a_folder_or_a_bucket() {
        let folder = |path: &str| Place::Folder(PathBuf::from(path));
        assert_eq!(UploadsConfig::default().place().unwrap(), folder("data/uploads"));
        assert_eq!(at("file:///var/uploads").place().unwrap(), folder("/var/uploads"));
        let bucket = |prefix: &str| Place::Bucket { bucket: "files".to_owned(), prefix: prefix.to_owned() };
        assert_eq!(at("s3://files").place().unwrap(), bucket(""));
        assert_eq!(at("s3://files/parlor/one/").place().unwrap(), bucket("parlor/one"));
        for wrong in ["", "/var/uploads", "file://", "s3://", "s3:///x", "ftp://x"] {
            assert!(at(wrong).check().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_work_and_nonsense_does_not() {
        assert!(UploadsConfig::default().check().is_ok());
        assert!(UploadsConfig { max_bytes: 0, ..UploadsConfig::default() }.check().is_err());
        assert!(UploadsConfig { max_pending: 0, ..UploadsConfig::default() }.check().is_err());
        assert!(UploadsConfig { min_bytes_per_second: 0, ..UploadsConfig::default() }.check().is_err());
        assert!(UploadsConfig { max_stored_bytes: u64::MAX, ..UploadsConfig::default() }.check().is_err());
        let base_url = Some("chat.example".to_owned());
        assert!(UploadsConfig { base_url, ..UploadsConfig::default() }.check().is_err());
        let media_types = vec!["everything".to_owned()];
        assert!(UploadsConfig { media_types, ..UploadsConfig::default() }.check().is_err());
    }

    #[test]
    fn a_key_needs_one_secret() {
        let key = S3Config { key_id: "id".to_owned(), ..S3Config::default() };
        let secret = Some(Secret::new("secret"));
        assert!(key.secret().is_err());
        assert!(S3Config { secret: secret.clone(), ..S3Config::default() }.secret().is_err());
        assert!(S3Config { secret: secret.clone(), ..key.clone() }.secret().is_ok());
        let secret_file = Some(PathBuf::from("/nowhere"));
        assert!(S3Config { secret, secret_file, ..key }.secret().is_err());
    }
}
