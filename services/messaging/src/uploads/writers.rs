//! The files that are being written by this process: one writer for each, few for each user, and so many in all.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::id::{UploadId, UserId};

use crate::error::Error;

/// The files that are being written.
#[derive(Clone, Debug)]
pub struct Writers {
    most: usize,
    most_of_user: usize,
    present: Arc<Mutex<Present>>,
}

#[derive(Debug, Default)]
struct Present {
    uploads: BTreeSet<UploadId>,
    of_users: HashMap<UserId, usize>,
}

/// The right to write one file, until it is dropped.
#[derive(Debug)]
pub struct Writing {
    writers: Writers,
    upload: UploadId,
    user: UserId,
}

impl Writers {
    /// None are written yet.
    pub fn new(most: u32, most_of_user: u32) -> Self {
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Self { most: size(most), most_of_user: size(most_of_user), present: Arc::default() }
    }

    /// Lets a user write a file, or says which rule that would break.
    pub fn enter(&self, upload: UploadId, user: UserId) -> Result<Writing, Error> {
        let mut present = self.present();
        if present.uploads.contains(&upload) {
            return Err(Error::UploadInProgress(upload));
        }
        if present.of_users.get(&user).is_some_and(|of_user| *of_user >= self.most_of_user) {
            let most = i64::try_from(self.most_of_user).unwrap_or(i64::MAX);
            return Err(Error::TooManyUploads { rule: "uploads.max_writers_per_user", most });
        }
        if present.uploads.len() >= self.most {
            return Err(Error::Overloaded);
        }
        present.uploads.insert(upload);
        *present.of_users.entry(user).or_default() += 1;
        Ok(Writing { writers: self.clone(), upload, user })
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut present = self.writers.present();
        present.uploads.remove(&self.upload);
        if let Some(of_user) = present.of_users.get_mut(&self.user) {
            *of_user -= 1;
            if *of_user == 0 {
                present.of_users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_writer_and_a_user_few() {
        let writers = Writers::new(4, 2);
        let [ann, bob] = [UserId::generate(), UserId::generate()];
        let files: [UploadId; 5] = std::array::from_fn(|_| UploadId::generate());
        let first = writers.enter(files[0], ann).unwrap();
        assert!(matches!(writers.enter(files[0], bob), Err(Error::UploadInProgress(id)) if id == files[0]));
        let second = writers.enter(files[1], ann).unwrap();
        let third = writers.enter(files[2], ann);
        assert!(matches!(third, Err(Error::TooManyUploads { most: 2, .. })));
        // The user's own bound stops nobody else.
        let others = [writers.enter(files[2], bob).unwrap(), writers.enter(files[3], bob).unwrap()];
        assert!(matches!(writers.enter(files[4], UserId::generate()), Err(Error::Overloaded)));
        drop((first, others));
        assert!(writers.enter(files[0], ann).is_ok(), "what has ended leaves its place");
        drop(second);
        assert!(writers.present().uploads.is_empty() && writers.present().of_users.is_empty());
    }
}
