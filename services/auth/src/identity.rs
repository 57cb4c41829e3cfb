//! Who somebody is to a provider: what an ID token must say to be believed (OpenID Connect Core, 3.1.3.7).

use chassis::clock::Timestamp;
use serde::Deserialize;

use crate::email::Email;
use crate::once::Once;
use crate::user::DisplayName;

/// How far two clocks may be apart, in seconds.
const LEEWAY: f64 = 60.0;

/// Somebody, as a provider knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// Who it is there; never given to somebody else.
    pub subject: String,
    /// The address, when the provider has verified it.
    pub email: Option<Email>,
    /// The name that people see there, when we could show it.
    pub name: Option<DisplayName>,
    /// What makes the token one for one use.
    pub once: Once,
}

/// What is demanded of a token.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Who must have made it.
    pub issuer: &'a str,
    /// Whom it may be meant for.
    pub client_ids: &'a [String],
    /// What the client has sent along, when it has.
    pub nonce: Option<&'a str>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    jti: Option<String>,
    email: Option<serde_json::Value>,
    email_verified: Option<serde_json::Value>,
    name: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Identity {
    /// Reads the payload of a token whose signature is right. Says what is wrong with one that is not to be believed.
    pub fn read(payload: &[u8], demand: &Demand<'_>, now: Timestamp) -> Result<Self, &'static str> {
        let claims: Claims = serde_json::from_slice(payload)
            .map_err(|_| "lacks one of iss, sub, aud, exp and iat, or says it in another way")?;
        if claims.iss != demand.issuer {
            return Err("was made by somebody else");
        }
        let is_ours = |id: &String| demand.client_ids.contains(id);
        let audience = claims.aud.as_slice();
        if !audience.iter().any(is_ours) {
            return Err("is meant for somebody else");
        }
        match &claims.azp {
            Some(party) if !is_ours(party) => return Err("was asked for by somebody else"),
            None if audience.len() > 1 => {
                return Err("is meant for several and does not say who asked for it");
            }
            Some(_) | None => {}
        }
        check_times(&claims, now)?;
        if demand.nonce.is_some() && demand.nonce != claims.nonce.as_deref() {
            return Err("has another nonce");
        }
        let is_subject = (1..=255).contains(&claims.sub.len()) && !claims.sub.contains(char::is_control);
        if !is_subject {
            return Err("has a subject that is empty, too long, or no text");
        }
        let text =
            |claim: Option<serde_json::Value>| claim.and_then(|claim| claim.as_str().map(str::to_owned));
        // Some providers write it as text.
        let is_verified = match &claims.email_verified {
            Some(serde_json::Value::Bool(verified)) => *verified,
            Some(serde_json::Value::String(verified)) => verified == "true",
            _ => false,
        };
        let email = text(claims.email).filter(|_| is_verified);
        let (id, end) = (claims.jti.as_deref(), claims.exp + LEEWAY);
        let once = Once::of(&claims.iss, payload, id, demand.nonce, end);
        Ok(Self {
            issuer: claims.iss,
            subject: claims.sub,
            email: email.and_then(|email| Email::parse("email", &email).ok()),
            name: text(claims.name).and_then(|name| DisplayName::parse("name", &name).ok()),
            once,
        })
    }
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<(), &'static str> {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium are exact")]
    let now = now.as_millis() as f64 / 1000.0;
    if now >= claims.exp + LEEWAY {
        return Err("has expired");
    }
    let is_later = |time: f64| time > now + LEEWAY;
    if is_later(claims.iat) || claims.nbf.is_some_and(is_later) {
        return Err("is not valid yet");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_795_000_000;

    fn good() -> Value {
        json!({"iss": "https://id.example.org", "sub": "42", "aud": "parlor", "exp": NOW + 300, "iat": NOW})
    }

    fn read_with(claims: &Value, nonce: Option<&str>) -> Result<Identity, &'static str> {
        let client_ids = ["parlor".to_owned(), "parlor-app".to_owned()];
        let demand = Demand { issuer: "https://id.example.org", client_ids: &client_ids, nonce };
        Identity::read(claims.to_string().as_bytes(), &demand, Timestamp::from_millis(NOW * 1000))
    }

    fn read(changes: Value) -> Result<Identity, &'static str> {
        let mut claims = good();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        read_with(&claims, None)
    }

    #[test]
    fn what_is_right_is_believed() {
        let identity = read(json!({})).unwrap();
        assert_eq!((identity.issuer.as_str(), identity.subject.as_str()), ("https://id.example.org", "42"));
        assert_eq!((identity.email, identity.name), (None, None));
        for changes in [
            json!({"aud": ["parlor"]}),
            json!({"aud": ["parlor", "other"], "azp": "parlor-app"}),
            json!({"azp": "parlor"}),
            json!({"exp": NOW - 59}),
            json!({"exp": NOW as f64 + 0.5}),
            json!({"iat": NOW + 60}),
            json!({"nbf": NOW + 60}),
            json!({"iat": NOW - 10_000_000}),
            json!({"sub": "x".repeat(255)}),
            json!({"email": 5, "name": []}),
            json!({"email": "nonsense", "email_verified": true, "name": "\u{202E}"}),
        ] {
            assert!(read(changes.clone()).is_ok(), "{changes}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_and_said() {
        for (changes, why) in [
            (json!({"iss": "https://id.example.org/"}), "was made by somebody else"),
            (json!({"iss": "https://evil.example.org"}), "was made by somebody else"),
            (json!({"aud": "other"}), "is meant for somebody else"),
            (json!({"aud": []}), "is meant for somebody else"),
            (json!({"aud": "Parlor"}), "is meant for somebody else"),
            (json!({"aud": ["parlor", "other"]}), "is meant for several and does not say who asked for it"),
            (json!({"aud": ["parlor", "other"], "azp": "other"}), "was asked for by somebody else"),
            (json!({"azp": "other"}), "was asked for by somebody else"),
            (json!({"exp": NOW - 60}), "has expired"),
            (json!({"exp": NOW - 86_400}), "has expired"),
            (json!({"iat": NOW + 61}), "is not valid yet"),
            (json!({"nbf": NOW + 61}), "is not valid yet"),
            (json!({"sub": ""}), "has a subject that is empty, too long, or no text"),
            (json!({"sub": "x".repeat(256)}), "has a subject that is empty, too long, or no text"),
            (json!({"sub": "a\nb"}), "has a subject that is empty, too long, or no text"),
        ] {
            assert_eq!(read(changes.clone()), Err(why), "{changes}");
        }
        for missing in ["iss", "sub", "aud", "exp", "iat"] {
            let said = read(json!({ missing: null })).unwrap_err();
            assert!(said.starts_with("lacks one of"), "{missing}: {said}");
        }
        for changes in [json!({"exp": "soon"}), json!({"sub": 42}), json!({"aud": 1})] {
            assert!(read(changes.clone()).is_err(), "{changes}");
        }
    }

    #[test]
    fn a_nonce_that_was_sent_must_come_back() {
        let with = |nonce: &str| {
            let mut claims = good();
            claims["nonce"] = json!(nonce);
            claims
        };
        assert!(read_with(&with("n1"), Some("n1")).is_ok());
        assert!(read_with(&with("n1"), None).is_ok());
        assert_eq!(read_with(&with("n2"), Some("n1")), Err("has another nonce"));
        assert_eq!(read_with(&good(), Some("n1")), Err("has another nonce"));
    }

    #[test]
    fn only_a_verified_address_is_taken_over() {
        let email = |verified: Value| {
            let changes = json!({"email": "ann@example.org", "email_verified": verified, "name": " Ann "});
            read(changes).unwrap().email.map(|email| email.as_str().to_owned())
        };
        for verified in [json!(true), json!("true")] {
            assert_eq!(email(verified).as_deref(), Some("ann@example.org"));
        }
        for verified in [json!(false), json!("false"), json!(1), json!("yes"), Value::Null] {
            assert_eq!(email(verified), None);
        }
        assert_eq!(read(json!({"name": " Ann "})).unwrap().name.unwrap().as_str(), "Ann");
    }
}
