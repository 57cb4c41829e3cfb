//! Languages and countries by their English names. The core keeps BCP 47 tags and ISO 3166-1 codes.

use std::collections::HashMap;
use std::sync::LazyLock;

use chassis::fault::Fault;

static COUNTRIES: LazyLock<Names> = LazyLock::new(|| Names::read(include_str!("countries.txt")));
static LANGUAGES: LazyLock<Names> = LazyLock::new(|| Names::read(include_str!("languages.txt")));

/// Codes with their names: the first name is the one that is shown, all are accepted.
struct Names {
    by_code: HashMap<String, &'static str>,
    by_name: HashMap<String, &'static str>,
}

impl Names {
    /// Reads lines such as `US United States|USA`.
    fn read(lines: &'static str) -> Self {
        let (mut by_code, mut by_name) = (HashMap::new(), HashMap::new());
        for (code, names) in lines.lines().filter_map(|line| line.split_once(' ')) {
            for name in names.split('|') {
                by_code.entry(fold(code)).or_insert(name);
                by_name.insert(fold(name), code);
            }
        }
        Self { by_code, by_name }
    }

    /// Returns the code of a name; a code is accepted as well.
    fn code(&self, text: &str) -> Option<String> {
        let folded = fold(text);
        match self.by_name.get(&folded) {
            Some(code) => Some((*code).to_owned()),
            None => self.by_code.contains_key(&folded).then_some(folded),
        }
    }
}

fn fold(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Returns the code of a country by its English name.
pub(in crate::dialects::talkamie) fn country_code(field: &str, name: &str) -> Result<String, Fault> {
    let code = COUNTRIES.code(name).map(|code| code.to_uppercase());
    code.ok_or_else(|| Fault::invalid(field, "must be the English name of a country"))
}

/// Returns the English name of a country.
pub(in crate::dialects::talkamie) fn country_name(code: &str) -> &str {
    COUNTRIES.by_code.get(&fold(code)).copied().unwrap_or(code)
}

/// Returns the tag of a language by its English name.
pub(in crate::dialects::talkamie) fn language_tag(field: &str, name: &str) -> Result<String, Fault> {
    LANGUAGES.code(name).ok_or_else(|| Fault::invalid(field, "must be the English name of a language"))
}

/// Returns the English name of the language of a tag; a tag whose language has no name here is shown unchanged.
pub(in crate::dialects::talkamie) fn language_name(tag: &str) -> &str {
    let language = tag.split('-').next().unwrap_or_default();
    LANGUAGES.by_code.get(&fold(language)).copied().unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_as_it_was_given() {
        for names in [&*COUNTRIES, &*LANGUAGES] {
            for (code, name) in &names.by_code {
                assert_eq!(names.code(name).map(|code| fold(&code)).as_ref(), Some(code), "{name}");
            }
        }
        assert_eq!((COUNTRIES.by_code.len(), LANGUAGES.by_code.len()), (249, 189));
    }

    #[test]
    fn names_have_other_spellings() {
        for name in ["United States", "usa", " United States of America ", "us"] {
            assert_eq!(country_code("country", name), Ok("US".to_owned()), "{name}");
        }
        assert_eq!(language_tag("language", "persian"), Ok("fa".to_owned()));
        assert_eq!((country_name("pt"), language_name("pt-BR")), ("Portugal", "Portuguese"));
        assert_eq!((country_name("XX"), language_name("tlh")), ("XX", "tlh"));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(country_code("country", "Atlantis").expect_err("unknown").fields()[0].0, "country");
        assert_eq!(language_tag("language", "Klingon").expect_err("unknown").fields()[0].0, "language");
    }
}
