//! Pages of lists: how many, and where the next one starts.
//!
//! A page token is opaque to clients and says where to continue. It is bound to the query that it came from by a
//! fingerprint, so that it cannot continue another list by mistake. It is not signed, because it grants nothing: the
//! next page is checked like the first, and a position somebody made up shows only what they may see anyway.
//!
//! ```
//! use chassis::page::{self, Token};
//!
//! // What the answer depends on besides the page: who asks, and the arguments.
//! let query: [&[u8]; 2] = [b"user 1", b"filter"];
//! let limit = page::size(0);
//! let after: Option<i64> = Token::after("", &query)?;
//! assert_eq!((limit, after), (50, None));
//!
//! let next = Token::at(&query, &1234_i64);
//! assert_eq!(Token::after(&next, &query)?, Some(1234_i64));
//! # Ok::<(), chassis::fault::Fault>(())
//! ```

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::fault::Fault;

/// The page size when none is asked for.
pub const DEFAULT_SIZE: i64 = 50;
/// The largest page; more is cut to this.
pub const MAX_SIZE: i64 = 100;

/// The first byte of a token. Another layout takes another number, so that old tokens are refused and not misread.
const VERSION: u8 = 1;
const FINGERPRINT_LEN: usize = 8;
/// Longer than any token of ours: what is longer is refused before it is decoded.
const MAX_TOKEN_LEN: usize = 512;

/// How many rows a page has when `page_size` says `requested`: 0 is [`DEFAULT_SIZE`], more than [`MAX_SIZE`] is that.
pub fn size(requested: i32) -> i64 {
    limit(requested, DEFAULT_SIZE, MAX_SIZE)
}

/// As [`size`], for a list with its own bounds. A negative number never comes here: the rules of the field refuse it.
pub fn limit(requested: i32, default: i64, max: i64) -> i64 {
    match i64::from(requested) {
        ..=0 => default,
        asked => asked.min(max),
    }
}

/// Writes and reads page tokens.
///
/// `query` is everything that the list depends on besides the page: the caller where the answer is theirs, and each
/// argument. The same parts in the same order must be given when the token comes back.
#[derive(Debug)]
pub struct Token;

impl Token {
    /// The token of the page that starts after `position`.
    pub fn encode(query: &[&[u8]], position: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(1 + FINGERPRINT_LEN + position.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&fingerprint(query));
        bytes.extend_from_slice(position);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position in a token; `None` when it is empty, which is the first page.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT naming `page_token`, when it is not a token of ours or comes from another query.
    pub fn decode(token: &str, query: &[&[u8]]) -> Result<Option<Vec<u8>>, Fault> {
        if token.is_empty() {
            return Ok(None);
        }
        if token.len() > MAX_TOKEN_LEN {
            return Err(malformed());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let Some((&VERSION, rest)) = bytes.split_first() else {
            return Err(malformed());
        };
        let Some((print, position)) = rest.split_at_checked(FINGERPRINT_LEN) else {
            return Err(malformed());
        };
        if print != fingerprint(query) {
            return Err(Fault::invalid(
                "page_token",
                "must be used with the arguments of the list that it came from",
            ));
        }
        Ok(Some(position.to_vec()))
    }

    /// As [`Token::encode`], with a position of a common shape.
    pub fn at<P: Position>(query: &[&[u8]], position: &P) -> String {
        Self::encode(query, &position.to_bytes())
    }

    /// As [`Token::decode`], with a position of a common shape.
    ///
    /// # Errors
    ///
    /// As [`Token::decode`], also when the position has another shape.
    pub fn after<P: Position>(token: &str, query: &[&[u8]]) -> Result<Option<P>, Fault> {
        Self::decode(token, query)?.map(|bytes| P::from_bytes(&bytes).ok_or_else(malformed)).transpose()
    }
}

/// What a list is ordered by, as the bytes in a token.
pub trait Position: Sized {
    /// The bytes.
    fn to_bytes(&self) -> Vec<u8>;
    /// The position again; `None` when these are not its bytes.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// A sequence, a time, a count.
impl Position for i64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

/// An id.
impl Position for Uuid {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }
}

/// A time, and the id that orders what happened at the same time.
impl Position for (i64, Uuid) {
    fn to_bytes(&self) -> Vec<u8> {
        [self.0.to_bytes(), self.1.to_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, id) = bytes.split_at_checked(size_of::<i64>())?;
        Some((i64::from_bytes(time)?, Uuid::from_slice(id).ok()?))
    }
}

/// The length stands before each part: `["ab", "c"]` and `["a", "bc"]` are different queries.
fn fingerprint(query: &[&[u8]]) -> [u8; FINGERPRINT_LEN] {
    let mut hash = Sha256::new();
    for part in query {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut print = [0; FINGERPRINT_LEN];
    print.copy_from_slice(&digest[..FINGERPRINT_LEN]);
    print
}

fn malformed() -> Fault {
    Fault::invalid("page_token", "must be empty or the next_page_token of an earlier answer")
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const QUERY: [&[u8]; 2] = [b"ann", b"members"];

    #[test]
    fn sizes_are_cut_to_the_bounds() {
        assert_eq!([0, 1, 50, 100, 101, i32::MAX, -1].map(size), [50, 1, 50, 100, 100, 100, 50]);
        assert_eq!([0, 7, 1001].map(|n| limit(n, 200, 1000)), [200, 7, 1000]);
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let id = Uuid::from_u128(0x1234);
        assert_eq!(Token::decode("", &QUERY), Ok(None));
        assert_eq!(Token::decode(&Token::encode(&QUERY, b""), &QUERY), Ok(Some(vec![])));
        assert_eq!(Token::decode(&Token::encode(&QUERY, b"here"), &QUERY), Ok(Some(b"here".to_vec())));
        assert_eq!(Token::after(&Token::at(&QUERY, &-5_i64), &QUERY), Ok(Some(-5_i64)));
        assert_eq!(Token::after(&Token::at(&QUERY, &id), &QUERY), Ok(Some(id)));
        assert_eq!(Token::after(&Token::at(&QUERY, &(i64::MAX, id)), &QUERY), Ok(Some((i64::MAX, id))));
        assert_eq!(Token::after::<i64>("", &QUERY), Ok(None));
    }

    #[test]
    fn a_token_of_another_query_is_refused() {
        let token = Token::encode(&QUERY, b"here");
        let others: [&[&[u8]]; 5] =
            [&[b"bob", b"members"], &[b"ann"], &[b"annm", b"embers"], &[b"ann", b"members", b""], &[]];
        for other in others {
            refused(Token::decode(&token, other));
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = URL_SAFE_NO_PAD.decode(Token::encode(&QUERY, b"here")).unwrap();
        let mut other_version = good.clone();
        other_version[0] = 2;
        let texts = [
            "hello world".to_owned(),
            "AQ".to_owned(),
            "ÄÖÜ".to_owned(),
            Token::encode(&QUERY, b"here") + "=",
            URL_SAFE_NO_PAD.encode(&good[..8]),
            URL_SAFE_NO_PAD.encode(other_version),
            Token::encode(&QUERY, &[0; 1000]),
        ];
        for text in texts {
            refused(Token::decode(&text, &QUERY));
        }
        refused(Token::after::<i64>(&Token::encode(&QUERY, b"here"), &QUERY));
        refused(Token::after::<(i64, Uuid)>(&Token::at(&QUERY, &1_i64), &QUERY));
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(answer: Result<T, Fault>) {
        let fault = answer.unwrap_err();
        assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
        assert_eq!(fault.fields()[0].0, "page_token");
    }
}
