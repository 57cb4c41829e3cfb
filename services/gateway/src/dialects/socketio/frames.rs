//! A filter for the incoming frames of a WebSocket, which reads their headers: no message is longer than the limit.

use tokio::io::ReadBuf;

/// A close with code 1009 (message too big), as a client would send it: masked, with a mask of zeros.
const TOO_BIG: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf1];

/// The longest header: two bytes, eight of an extended length, four of the mask.
const MAX_HEADER: usize = 14;

/// Passes frames on, and a close instead of the first that makes a message too long.
pub(super) struct FrameFilter {
    max_message: usize,
    /// The bytes of an incomplete header: they are not passed on before the length is known.
    header: Vec<u8>,
    /// The number of bytes of the payload that have not arrived yet.
    payload: u64,
    /// The length of the message, up to here, over its frames.
    message: u64,
    /// The bytes that wait to be read.
    passed: Vec<u8>,
    read: usize,
    has_refused: bool,
}

impl FrameFilter {
    pub(super) fn new(max_message: usize) -> Self {
        Self {
            max_message,
            header: Vec::new(),
            payload: 0,
            message: 0,
            passed: Vec::new(),
            read: 0,
            has_refused: false,
        }
    }

    /// True when a message was too long. Later bytes are not passed on.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// Takes bytes that have arrived.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.has_refused {
            if self.payload > 0 {
                let len = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                let (payload, rest) = bytes.split_at(len);
                self.passed.extend_from_slice(payload);
                self.payload -= len as u64;
                bytes = rest;
            } else {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                self.begin_payload();
            }
        }
    }

    /// Evaluates the header when it is complete.
    fn begin_payload(&mut self) {
        let Some((opcode, length)) = parse(&self.header) else { return };
        // Control frames have their own limit, which the library enforces.
        if opcode < 8 {
            self.message = if opcode == 0 { self.message.saturating_add(length) } else { length };
            if self.message > self.max_message as u64 {
                self.has_refused = true;
                self.passed.extend_from_slice(&TOO_BIG);
                return;
            }
        }
        self.payload = length;
        self.passed.append(&mut self.header);
    }

    /// Moves waiting bytes into the buffer, as far as there is room. Returns true when there were any.
    pub(super) fn take(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let waiting = &self.passed[self.read..];
        if waiting.is_empty() {
            return false;
        }
        let len = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..len]);
        self.read += len;
        if self.read == self.passed.len() {
            // An idle connection holds no memory here.
            (self.passed, self.read) = (Vec::new(), 0);
        }
        true
    }
}

/// Returns the opcode and the length of the payload, once the header is complete.
fn parse(header: &[u8]) -> Option<(u8, u64)> {
    debug_assert!(header.len() <= MAX_HEADER);
    let (first, second) = (*header.first()?, *header.get(1)?);
    let extended: usize = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if header.len() < 2 + extended + mask {
        return None;
    }
    let length = match extended {
        0 => u64::from(second & 0x7f),
        len => header[2..2 + len].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    Some((first & 0x0f, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![opcode];
        match payload {
            0..126 => frame.push(0x80 | payload as u8),
            126..65536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[1, 2, 3, 4]);
        frame.extend(std::iter::repeat_n(0x55, payload));
        frame
    }

    /// Returns the output for these bytes, when they arrive in pieces of this length.
    fn read(bytes: &[u8], piece: usize, max: usize) -> (Vec<u8>, bool) {
        let mut filter = FrameFilter::new(max);
        let mut read = Vec::new();
        for piece in bytes.chunks(piece) {
            filter.put(piece);
            let mut room = [0; 7];
            loop {
                let mut room = ReadBuf::new(&mut room);
                if !filter.take(&mut room) {
                    break;
                }
                read.extend_from_slice(room.filled());
            }
        }
        (read, filter.has_refused())
    }

    #[test]
    fn a_message_at_the_bound_passes_and_one_beyond_it_does_not() {
        let at = frame(0x81, 200);
        assert_eq!(read(&at, 64, 200), (at.clone(), false));
        assert_eq!(read(&at, 64, 199), (TOO_BIG.to_vec(), true));
    }

    #[test]
    fn a_message_in_pieces_counts_as_a_whole() {
        let first = frame(0x01, 100);
        let bytes = [first.clone(), frame(0x89, 50), frame(0x80, 101)].concat();
        let (read, has_refused) = read(&bytes, 33, 200);
        assert!(has_refused);
        assert_eq!(read, [first, frame(0x89, 50), TOO_BIG.to_vec()].concat());
    }

    #[test]
    fn messages_count_each_on_its_own() {
        let bytes = [frame(0x81, 150), frame(0x82, 150), frame(0x81, 0)].concat();
        assert_eq!(read(&bytes, 1000, 200), (bytes.clone(), false));
    }

    proptest! {
        #[test]
        fn frames_within_the_bound_pass_whatever_their_pieces(
            sizes in proptest::collection::vec(0usize..70_000, 0..4),
            piece in 1usize..3000,
        ) {
            let bytes: Vec<u8> = sizes.iter().flat_map(|size| frame(0x82, *size)).collect();
            prop_assert_eq!(read(&bytes, piece, 70_000), (bytes, false));
        }

        #[test]
        fn any_bytes_are_passed_on_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (read, has_refused) = read(&bytes, 5, 100);
            prop_assert!(has_refused || bytes.starts_with(&read));
        }
    }
}
