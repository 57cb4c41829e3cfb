//! Signed tokens (JWT, RFC 7519, in compact form) and the keys they are verified with (JWK, RFC 7517).
//!
//! Three algorithms and no more: RS256, ES256, EdDSA with Ed25519. Which one it is follows from the key; a token that
//! names another one than its key is for is refused. So a token can neither choose to be unsigned, nor have a public key
//! taken for a shared secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// The longest token that is looked at, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// The most keys of one provider that are looked at.
const MOST_KEYS: usize = 64;

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// RSA with SHA-256, PKCS #1 v1.5; keys of 2,048 to 8,192 bits.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A token whose signature nobody has looked at yet. What it says is not to be believed.
#[derive(Debug)]
pub struct Token<'a> {
    /// How it says it is signed.
    pub algorithm: Algorithm,
    /// With which key it says it is signed.
    pub key_id: Option<String>,
    signed: &'a str,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde_json::Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. Says what is wrong with one that is none of ours to verify.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        const NO_JWT: &str = "is no signed JWT in compact form";
        if text.len() > LONGEST {
            return Err("is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(NO_JWT)?;
        let (header, payload) = signed.split_once('.').ok_or(NO_JWT)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| NO_JWT);
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let Header { alg, kid, typ, crit } = serde_json::from_slice(&header).map_err(|_| NO_JWT)?;
        let algorithm = match alg.as_str() {
            "RS256" => Algorithm::Rs256,
            "ES256" => Algorithm::Es256,
            "EdDSA" => Algorithm::EdDsa,
            _ => return Err("is not signed with RS256, ES256 or EdDSA"),
        };
        if crit.is_some() {
            return Err("has a critical header that is not known");
        }
        if typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err("is a token of another type");
        }
        Ok(Self { algorithm, key_id: kid, signed, signature, payload })
    }

    /// What it says, when this key has signed it.
    pub fn verified_by(&self, key: &Key) -> Result<&[u8], &'static str> {
        if key.algorithm() != self.algorithm {
            return Err("names another algorithm than its key is for");
        }
        if key.verifies(self.signed.as_bytes(), &self.signature) {
            Ok(&self.payload)
        } else {
            Err("has a signature that is not right")
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// RSA: modulus and exponent, without zeros before them.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
    /// A point of Ed25519.
    Ed25519(Vec<u8>),
}

impl Key {
    /// The one algorithm that it is for.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Self::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
        }
    }
}

/// The keys of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<(Option<String>, Key)>);

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a key set. Keys that are for something else, or that are none, are passed over.
    pub fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let KeySet { keys } = serde_json::from_slice(json)?;
        anyhow::ensure!(keys.len() <= MOST_KEYS, "has more than {MOST_KEYS} keys");
        let read = |key: serde_json::Value| serde_json::from_value::<Jwk>(key).ok().and_then(Jwk::into_key);
        let keys: Vec<_> = keys.into_iter().filter_map(read).collect();
        anyhow::ensure!(!keys.is_empty(), "has no key for RS256, ES256 or EdDSA");
        Ok(Self(keys))
    }

    /// The key that a token must be signed with. A token that names none is only for a provider that has one of its
    /// kind.
    pub fn of(&self, token: &Token<'_>) -> Option<&Key> {
        let named = self.0.iter().filter(|(id, key)| match &token.key_id {
            Some(named) => id.as_ref() == Some(named),
            None => key.algorithm() == token.algorithm,
        });
        let mut named = named.map(|(_, key)| key);
        named.next().filter(|_| named.next().is_none())
    }
}

impl Jwk {
    fn into_key(self) -> Option<(Option<String>, Key)> {
        let bytes = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_ref()?).ok();
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let part = |part| {
                    let bytes: Vec<u8> = bytes(part)?;
                    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
                };
                Key::Rsa { n: part(&self.n)?, e: part(&self.e)? }
            }
            ("EC", Some("P-256")) => {
                let [x, y] = [bytes(&self.x)?, bytes(&self.y)?];
                (x.len() == 32 && y.len() == 32).then(|| Key::P256([&[4], x.as_slice(), &y].concat()))?
            }
            ("OKP", Some("Ed25519")) => Key::Ed25519(bytes(&self.x).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let is_to_sign = self.usage.is_none_or(|usage| usage == "sig");
        let name = match key.algorithm() {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        };
        let is_for_it = self.alg.is_none_or(|alg| alg == name || (name == "EdDSA" && alg == "Ed25519"));
        (is_to_sign && is_for_it).then_some((self.kid, key))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn encoded(text: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn token(header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encoded(header.as_bytes()), encoded(payload.as_bytes()));
        let signature = encoded(pair().sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    #[test]
    fn a_token_is_believed_when_its_key_has_signed_it() {
        let key = Key::Ed25519(pair().public_key().as_ref().to_vec());
        let text = token(r#"{"alg":"EdDSA","kid":"1","typ":"JWT"}"#, "hello");
        let parsed = Token::parse(&text).unwrap();
        assert_eq!(parsed.verified_by(&key), Ok(b"hello".as_slice()));
        let other = Key::Ed25519(vec![9; 32]);
        assert_eq!(parsed.verified_by(&other), Err("has a signature that is not right"));
        let (signed, _) = text.rsplit_once('.').unwrap();
        for forged in [format!("{signed}."), format!("{signed}.{}", encoded(&[0; 64]))] {
            assert!(Token::parse(&forged).unwrap().verified_by(&key).is_err(), "{forged}");
        }
        let forged = token(r#"{"alg":"ES256","kid":"1"}"#, "hello");
        let refused = Token::parse(&forged).unwrap().verified_by(&key).map(<[u8]>::to_vec);
        assert_eq!(refused, Err("names another algorithm than its key is for"));
    }

    #[test]
    fn what_is_not_signed_in_a_known_way_is_not_even_looked_at() {
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"RS384"}"#,
            r#"{"alg":"PS256"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":""}"#,
            r#"{}"#,
            "[]",
            r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#,
            r#"{"alg":"EdDSA","alg":"none"}"#,
            r#"{"alg":["EdDSA"]}"#,
        ] {
            assert!(Token::parse(&token(header, "{}")).is_err(), "{header}");
        }
        let good = token(r#"{"alg":"EdDSA"}"#, "{}");
        let long = format!("{good}{}", "A".repeat(LONGEST));
        for text in ["", ".", "..", "a.b", "a.b.c.d", &good.replace('.', ""), &format!("{good}="), &long] {
            assert!(Token::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keys_for_something_else_are_passed_over() {
        let point = encoded(&[5; 32]);
        let ed = |extra: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{point}"{extra}}}"#);
        let set = |keys: &[String]| Keys::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes());
        let good = ed(r#","kid":"1","use":"sig","alg":"EdDSA""#);
        let others = [
            ed(r#","use":"enc""#),
            ed(r#","alg":"ES256""#),
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"RSA"}"#.to_owned(),
            r#""nonsense""#.to_owned(),
        ];
        assert!(set(&others).is_err());
        let known = set(&[&others[..], std::slice::from_ref(&good)].concat()).unwrap();
        assert_eq!(known, Keys(vec![(Some("1".to_owned()), Key::Ed25519(vec![5; 32]))]));
        assert!(Keys::parse(b"{}").is_err() && Keys::parse(b"").is_err());
        assert!(set(&vec![good; MOST_KEYS + 1]).is_err());
    }

    #[test]
    fn a_token_that_names_no_key_is_for_a_provider_with_one() {
        let key = |id: &str, byte| (Some(id.to_owned()), Key::Ed25519(vec![byte; 32]));
        let (named, unnamed) = (token(r#"{"alg":"EdDSA","kid":"b"}"#, ""), token(r#"{"alg":"EdDSA"}"#, ""));
        let (named, unnamed) = (Token::parse(&named).unwrap(), Token::parse(&unnamed).unwrap());
        let two = Keys(vec![key("a", 1), key("b", 2)]);
        assert_eq!(two.of(&named), Some(&Key::Ed25519(vec![2; 32])));
        assert_eq!(two.of(&unnamed), None);
        let one = Keys(vec![key("a", 1), (None, Key::P256(vec![4; 65]))]);
        assert_eq!(one.of(&unnamed), Some(&Key::Ed25519(vec![1; 32])));
        assert_eq!(one.of(&named), None);
    }
}
