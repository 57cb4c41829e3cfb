//! The positions of event streams: the gateway keeps them here, so that the ids of events stay short.

use std::time::Duration;

use proto::id::{StreamCheckpointId, UserId};

use crate::error::Error;
use crate::messaging::Messaging;

/// The most checkpoints of one user.
const MOST: i64 = 64;

/// The time for which a checkpoint is kept that is not used.
pub const UNUSED: Duration = Duration::from_secs(30 * 86_400);

impl Messaging {
    /// Keeps a checkpoint of a user in place of the one unused for longest, if there are too many.
    pub async fn create_stream_checkpoint(
        &self,
        user: UserId,
        id: StreamCheckpointId,
        positions: &[u8],
    ) -> Result<(), Error> {
        let now = self.clock.now();
        Ok(self.store.create_stream_checkpoint(user, id, positions, MOST, now).await?)
    }

    /// The positions of a checkpoint of a user, which counts as used; `None` when there is no such checkpoint.
    pub async fn stream_checkpoint(
        &self,
        user: UserId,
        id: StreamCheckpointId,
    ) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.store.use_stream_checkpoint(user, id, self.clock.now()).await?)
    }
}
