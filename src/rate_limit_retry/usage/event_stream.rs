//! Reads the data of server-sent events in pieces (WHATWG HTML §9.2).

/// The state of a stream of events between two pieces.
#[derive(Debug)]
pub(super) struct EventStream {
    /// Position of the next byte within its line.
    line: Line,
    /// Whether the last byte was a carriage return, after which a line feed is part of the same line break.
    after_return: bool,
}

/// Position of the next byte within its line.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// In the name of its field. Contains the number of bytes so far, which are those of [`DATA`].
    Name(usize),
    /// In the value of a `data` field.
    Data,
    /// In another line.
    Other,
}

/// A part of an event.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Part<'a> {
    /// A part of its data.
    Data(&'a [u8]),
    /// Its end.
    End,
}

impl Default for EventStream {
    fn default() -> Self {
        Self {
            line: Line::Name(0),
            after_return: false,
        }
    }
}

impl EventStream {
    /// Reads the next piece and passes on the parts of events in it. Lines of data are separated by a line feed.
    pub(super) fn read(&mut self, mut piece: &[u8], mut each: impl FnMut(Part<'_>)) {
        while let Some((byte, rest)) = piece.split_first() {
            let after_return = std::mem::take(&mut self.after_return);
            match (byte, self.line) {
                (b'\n', _) if after_return => piece = rest,
                (b'\n' | b'\r', line) => {
                    self.after_return = *byte == b'\r';
                    match line {
                        Line::Name(0) => each(Part::End),
                        Line::Data => each(Part::Data(b"\n")),
                        Line::Name(_) | Line::Other => {}
                    }
                    self.line = Line::Name(0);
                    piece = rest;
                }
                (byte, Line::Name(matched)) => {
                    self.line = match DATA.get(matched) {
                        Some(expected) if expected == byte && matched + 1 == DATA.len() => {
                            Line::Data
                        }
                        Some(expected) if expected == byte => Line::Name(matched + 1),
                        // A byte order mark may precede the first line.
                        _ if matched == 0 && BYTE_ORDER_MARK.contains(byte) => Line::Name(0),
                        _ => Line::Other,
                    };
                    piece = rest;
                }
                (_, line) => {
                    let end = piece.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    let (text, rest) = piece.split_at(end.unwrap_or(piece.len()));
                    if matches!(line, Line::Data) {
                        each(Part::Data(text));
                    }
                    piece = rest;
                }
            }
        }
    }
}

/// The field that carries data, with its colon.
const DATA: &[u8] = b"data:";
/// The bytes of a byte order mark.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of each event, read in pieces of this length.
    fn events(stream: &str, length: usize) -> Vec<String> {
        let (mut reader, mut events, mut data) = (EventStream::default(), vec![], vec![]);
        for piece in stream.as_bytes().chunks(length) {
            reader.read(piece, |part| match part {
                Part::Data(text) => data.extend_from_slice(text),
                Part::End => events.push(String::from_utf8(std::mem::take(&mut data)).unwrap()),
            });
        }
        events
    }

    #[test]
    fn data_lines_are_passed_on_wherever_the_stream_is_split() {
        let stream = "\u{feff}data: 1\r\nid: 7\r\n\r\n: comment\ndata:2\ndata: 3\n\ndatabase: 4\ndata\n\ndata: 5\r\rdata: 6";
        for length in 1..=stream.len() {
            let events = events(stream, length);
            assert_eq!(events, [" 1\n", "2\n 3\n", "", " 5\n"], "{length}");
        }
    }
}
