//! How each database is asked for words.

/// The signs of an expression that is matched against words.
#[derive(Clone, Copy, Debug)]
pub struct Matches {
    /// Stands on both sides of a word. No word of ours has one in it.
    pub quote: char,
    /// Both.
    pub and: &'static str,
    /// One or the other.
    pub or: &'static str,
    /// After a word: also everything that begins like this.
    pub prefix: &'static str,
}

impl Matches {
    /// What has one of these marks, if any are given, and all of these words, of which the last may be a beginning.
    pub fn expression(&self, marks: &[String], words: &[String]) -> String {
        let quoted = |word: &String| format!("{0}{word}{0}", self.quote);
        let marks: Vec<_> = marks.iter().map(quoted).collect();
        let mut parts: Vec<_> = words.iter().map(quoted).collect();
        if let Some(last) = parts.last_mut() {
            last.push_str(self.prefix);
        }
        if !marks.is_empty() {
            parts.insert(0, format!("({})", marks.join(self.or)));
        }
        parts.join(self.and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_may_be_a_beginning() {
        let matches = Matches { quote: '"', and: " AND ", or: " OR ", prefix: "*" };
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(matches.expression(&[], &list("a b")), r#""a" AND "b"*"#);
        assert_eq!(matches.expression(&list("x y"), &list("a")), r#"("x" OR "y") AND "a"*"#);
    }
}
