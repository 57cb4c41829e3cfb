//! How messages become bytes and come back. Every generated client and server uses this codec, so no handler ever sees
//! a request that breaks a rule of the contract.

use std::fmt;
use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, EncodeBuf};

use crate::violation::{Incoming, invalid, undecodable};

/// A buffer of this size is made for every call. Most messages are a few hundred bytes; it grows for those that are not.
const BUFFER: usize = 2 * 1024;

/// A stream writes what is ready in pieces of about this size.
const PIECE: usize = 32 * 1024;

/// The codec: encodes `E`, decodes and checks `D`.
pub struct Codec<E, D>(PhantomData<fn(E) -> D>);

/// Encodes `E`.
pub struct Encoder<E>(PhantomData<fn(E)>);

/// Decodes and checks `D`.
pub struct Decoder<D>(PhantomData<fn() -> D>);

impl<E, D> Default for Codec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> fmt::Debug for Codec<E, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl<E> fmt::Debug for Encoder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl<D> fmt::Debug for Decoder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl<E, D> tonic::codec::Codec for Codec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Incoming + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = Encoder<E>;
    type Decoder = Decoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(PhantomData)
    }
}

impl<E: Message> tonic::codec::Encoder for Encoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, message: E, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message
            .encode(buffer)
            .map_err(|error| Status::internal(format!("cannot encode the message: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, PIECE)
    }
}

impl<D: Message + Default + Incoming> tonic::codec::Decoder for Decoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let message = match D::decode(buffer) {
            Ok(message) => message,
            Err(error) if D::REQUEST => return Err(undecodable(&error)),
            // Not the caller's fault: the other side speaks another language.
            Err(error) => {
                return Err(Status::internal(format!("the answer cannot be read: {error}")));
            }
        };
        let violations = message.check();
        if violations.is_empty() { Ok(Some(message)) } else { Err(invalid(violations)) }
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, PIECE)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, Bytes, BytesMut};
    use http_body_util::{BodyExt as _, Full};
    use tonic::codec::{Codec as _, EncodeBody, Streaming};
    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::auth::v1::{GetUserRequest, IntrospectRequest, IntrospectResponse};

    const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    /// What a handler gets for bytes on the wire.
    async fn receive<D>(message: &[u8]) -> Result<Option<D>, Status>
    where
        D: Message + Default + Incoming + Send + 'static,
    {
        let mut wire = BytesMut::new();
        wire.put_u8(0);
        wire.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        wire.put_slice(message);
        let decoder = Codec::<D, D>::default().decoder();
        Streaming::new_request(decoder, Full::new(wire.freeze()), None, None).message().await
    }

    #[tokio::test]
    async fn a_valid_request_comes_in() {
        let request = GetUserRequest { user_id: UUID.to_owned() };
        let received = receive::<GetUserRequest>(&request.encode_to_vec()).await;
        assert_eq!(received.ok().flatten(), Some(request));
    }

    #[tokio::test]
    async fn a_request_that_breaks_a_rule_is_refused() {
        let request = GetUserRequest { user_id: "ann".to_owned() };
        let Err(status) = receive::<GetUserRequest>(&request.encode_to_vec()).await else {
            panic!("accepted")
        };
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "user_id must be a UUID"));
        assert!(status.get_details_bad_request().is_some());
    }

    #[tokio::test]
    async fn bytes_that_are_no_request_are_the_callers_mistake() {
        let Err(status) = receive::<GetUserRequest>(b"\xff\xff\xff").await else { panic!("accepted") };
        assert_eq!(status.code(), Code::InvalidArgument);
        let reason = status.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("ERROR_REASON_INVALID_FIELD"));
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_is_not_the_callers_mistake() {
        let Err(status) = receive::<IntrospectResponse>(b"\xff\xff\xff").await else { panic!("accepted") };
        assert_eq!(status.code(), Code::Internal);
    }

    #[tokio::test]
    async fn a_large_message_goes_out_whole() {
        let request = IntrospectRequest { session_token: "x".repeat(100_000) };
        let messages = tonic::codegen::tokio_stream::once(Ok(request.clone()));
        let encoder = Codec::<IntrospectRequest, IntrospectRequest>::default().encoder();
        let body = EncodeBody::new_client(encoder, messages, None, None);
        let Ok(body) = body.collect().await else { panic!("cannot be encoded") };
        let wire: Bytes = body.to_bytes();
        assert_eq!(IntrospectRequest::decode(&wire[5..]), Ok(request));
    }
}
