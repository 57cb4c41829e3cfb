//! Content lines (RFC 5545, 3.1): texts escaped, parameters encoded (RFC 6868), at most 75 octets each.

/// As many octets a line has at most, without its end.
const MOST: usize = 75;

/// The lines of a file.
#[derive(Default)]
pub struct Lines(String);

impl Lines {
    /// Adds a property whose value is not a text: a date, a rule, an address.
    pub fn put(&mut self, name: &str, value: &str) {
        self.write(&format!("{name}:{value}"));
    }

    /// Adds a property whose value is a text.
    pub fn text(&mut self, name: &str, value: &str) {
        self.put(name, &escaped(value.trim()));
    }

    /// Adds a property with a parameter.
    pub fn put_with(&mut self, name: &str, parameter: &str, said: &str, value: &str) {
        self.write(&format!("{name};{parameter}={}:{value}", encoded(said)));
    }

    /// All of them.
    pub fn into_text(self) -> String {
        self.0
    }

    /// Each line but the first begins with a space, which counts. No character is cut.
    fn write(&mut self, line: &str) {
        let mut length = 0;
        for c in line.chars() {
            if length + c.len_utf8() > MOST {
                self.0.push_str("\r\n ");
                length = 1;
            }
            self.0.push(c);
            length += c.len_utf8();
        }
        self.0.push_str("\r\n");
    }
}

/// A text as a value: what ends a line, or a value in a list, is said otherwise.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text as the value of a parameter: in quotation marks where it needs them.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '^' => encoded.push_str("^^"),
            '"' => encoded.push_str("^'"),
            '\n' => encoded.push_str("^n"),
            c if c.is_control() => encoded.push(' '),
            c => encoded.push(c),
        }
    }
    let needs_quotes = encoded.contains([':', ';', ',']);
    if needs_quotes { format!("\"{encoded}\"") } else { encoded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> String {
        let mut lines = Lines::default();
        lines.write(line);
        lines.into_text()
    }

    #[test]
    fn a_line_has_75_octets_at_most_and_cuts_no_character() {
        assert_eq!(written(&"x".repeat(75)), format!("{}\r\n", "x".repeat(75)));
        assert_eq!(written(&"x".repeat(76)), format!("{}\r\n x\r\n", "x".repeat(75)));
        for text in ["x".repeat(400), "\u{e4}".repeat(200), "x\u{1f980}".repeat(99)] {
            let folded = written(&text);
            assert!(folded.split("\r\n").all(|line| line.len() <= 75), "{folded}");
            assert_eq!(folded.replace("\r\n ", "").trim_end(), text);
        }
        // Of one octet each as many as fit: the second line begins with a space.
        let lengths: Vec<_> = written(&"x".repeat(149)).split_terminator("\r\n").map(str::len).collect();
        assert_eq!(lengths, [75, 75]);
    }

    #[test]
    fn a_parameter_says_what_would_end_it() {
        for (text, expected) in [
            ("Ann", "Ann"),
            ("a^nb", "a^^nb"),
            ("a\nb", "a^nb"),
            ("a\r\nb", "a^nb"),
            ("Ann \"X\" Y", "Ann ^'X^' Y"),
            ("a:b;c,d", "\"a:b;c,d\""),
            ("a\u{7}b", "a b"),
        ] {
            assert_eq!(encoded(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_text_says_what_would_end_it() {
        assert_eq!(escaped("a,b;c\\d \u{7}: \"x\""), "a\\,b\\;c\\\\d  : \"x\"");
    }
}
