//! The fields of a request in a dialect: of a JSON object, of a form, of a query, or of the argument of an event.
//!
//! Clients of the dialects write numbers as texts and leave fields empty. So a number may be a text, and `null` is
//! treated as a missing field.

use chassis::fault::Fault;
use serde_json::{Map, Value};

/// The fields of a request, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl Fields {
    /// Reads a JSON object. An empty input is an object without fields.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Fault::invalid("body", "must be a JSON object")),
            Err(error) => Err(Fault::invalid("body", format!("must be JSON: {error}"))),
        }
    }

    /// Reads a form or a query. A repeated name is a list.
    pub(crate) fn from_form(bytes: &[u8]) -> Self {
        let mut fields = Map::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            let value = Value::String(value.into_owned());
            match fields.get_mut(name.as_ref()) {
                None => drop(fields.insert(name.into_owned(), value)),
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        Self(fields)
    }

    /// Reads an object in a field; a missing one is an object without fields.
    pub(crate) fn object(&self, name: &str) -> Result<Self, Fault> {
        match self.get(name) {
            None => Ok(Self::default()),
            Some(Value::Object(fields)) => Ok(Self(fields.clone())),
            Some(_) => Err(Fault::invalid(name, "must be an object")),
        }
    }

    /// Adds the fields of another object that are missing here.
    pub(crate) fn or(mut self, other: Self) -> Self {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    /// Returns a field that is present and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Returns all fields.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Returns a text. A number is taken as its JSON text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(Fault::invalid(name, "must be a string")),
        }
    }

    /// Returns a text that is not empty; an empty one counts as missing.
    pub(crate) fn filled(&self, name: &str) -> Result<Option<String>, Fault> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// Returns a required text that is not empty.
    pub(crate) fn required(&self, name: &str) -> Result<String, Fault> {
        self.filled(name)?.ok_or_else(|| Fault::invalid(name, "is required"))
    }

    /// Returns a list of texts: an array, or one text with commas between them.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Fault> {
        let refuse = || Fault::invalid(name, "must be an array of strings");
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Ok(parts.map(str::to_owned).collect())
            }
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text.clone()),
                    Value::Number(number) => Ok(number.to_string()),
                    _ => Err(refuse()),
                })
                .collect(),
            Some(_) => Err(refuse()),
        }
    }

    /// Returns a list of texts as an array, of which none is split.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>, Fault> {
        match self.get(name) {
            Some(Value::Array(_)) => self.texts(name),
            _ => Err(Fault::invalid(name, "must be an array of strings")),
        }
    }

    /// Returns a whole number; an empty text counts as missing.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Fault> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(Value::Number(number)) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| Fault::invalid(name, "must be a whole number"))
    }

    /// Returns a boolean.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(Fault::invalid(name, "must be a boolean")),
        }
    }
}

/// Converts a float to a whole number, if a double represents it exactly.
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_991.0;
    (number.fract() == 0.0 && number.abs() <= LIMIT).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::from_json(value.to_string().as_bytes()).expect("fields")
    }

    #[test]
    fn a_body_is_an_object() {
        assert_eq!(Fields::from_json(b" ").expect("fields"), Fields::default());
        for body in ["[]", "1", "\"x\"", "null", "{", "{\"a\":1}x"] {
            let fault = Fields::from_json(body.as_bytes()).expect_err(body);
            assert_eq!(fault.fields()[0].0, "body", "{body}");
        }
    }

    #[test]
    fn a_form_repeats_what_is_a_list() {
        let form = Fields::from_form(b"name=a+b&user=1&user=2&user=3&empty=");
        assert_eq!(form.text("name"), Ok(Some("a b".to_owned())));
        assert_eq!(form.texts("user"), Ok(vec!["1".to_owned(), "2".to_owned(), "3".to_owned()]));
        assert_eq!(form.filled("empty"), Ok(None));
    }

    #[test]
    fn a_number_may_be_a_text() {
        let fields = fields(json!({"a": 5, "b": "5", "c": 5.0, "d": "", "e": null}));
        assert_eq!((fields.integer("a"), fields.integer("b")), (Ok(Some(5)), Ok(Some(5))));
        assert_eq!((fields.integer("c"), fields.integer("d")), (Ok(Some(5)), Ok(None)));
        assert_eq!((fields.integer("e"), fields.integer("f")), (Ok(None), Ok(None)));
        assert_eq!(fields.text("a"), Ok(Some("5".to_owned())));
    }

    #[test]
    fn a_wrong_type_is_refused_by_name() {
        let fields = fields(json!({"a": {}, "b": [1, {}], "c": 1.5, "d": "x", "e": 1e300}));
        assert_eq!(fields.text("a").expect_err("an object").fields()[0].0, "a");
        assert_eq!(fields.texts("b").expect_err("an object in a list").fields()[0].0, "b");
        for name in ["a", "b", "c", "d", "e"] {
            assert!(fields.integer(name).is_err() && fields.boolean(name).is_err(), "{name}");
        }
        assert!(fields.object("d").is_err() && fields.object("a").is_ok());
    }

    #[test]
    fn a_list_may_be_a_text_with_commas() {
        let fields = fields(json!({"a": "1, 2,,3", "b": ["1", 2]}));
        assert_eq!(fields.texts("a").expect("texts"), ["1", "2", "3"]);
        assert_eq!(fields.texts("b").expect("texts"), ["1", "2"]);
    }
}
