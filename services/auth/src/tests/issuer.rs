//! A provider to sign in with, for tests: a real server with a discovery document and keys, and tokens signed with them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chassis::clock::Clock;
use chassis::tasks::Tasks;
use proto::id::UserId;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{START, config};
use crate::{Config, ProviderConfig};

/// A key of 2,048 bits that opens nothing: ring makes none.
const RSA_KEY: &str = include_str!("rsa_key.txt");

/// A pair of keys, and how tokens are signed with it.
pub(super) enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn rsa() -> Self {
        let der = STANDARD.decode(RSA_KEY.replace('\n', "")).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).unwrap()))
    }

    pub(super) fn p256() -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let der = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(how, der.as_ref(), &random).unwrap())
    }

    pub(super) fn ed25519() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    pub(super) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": encoded(&n), "e": encoded(&e)})
            }
            Self::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": encoded(x), "y": encoded(y)})
            }
            Self::Ed25519(pair) => {
                let x = encoded(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            }
        }
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::P256(pair) => pair.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
        }
    }

    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let signed =
            format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let signature = encoded(&self.sign(&signed));
        format!("{signed}.{signature}")
    }
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A provider that really listens.
pub(super) struct Issuer {
    pub(super) url: String,
    served: Arc<Mutex<Served>>,
    _tasks: Tasks,
}

/// What it says at the moment.
#[derive(Default)]
pub(super) struct Served {
    pub(super) discovery: Value,
    pub(super) keys: Vec<Value>,
    pub(super) is_down: bool,
    /// A clock that goes on by a second while it answers.
    pub(super) clock: Option<Clock>,
    /// How often it was asked for its keys.
    asked: usize,
}

impl Issuer {
    pub(super) async fn start(keys: &[(&str, &Signer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let served = Arc::new(Mutex::new(Served { discovery, ..Served::default() }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discover))
            .route("/keys", get(serve_keys))
            .with_state(served.clone());
        let tasks = Tasks::default();
        tasks.spawn("provider", |_| async move { axum::serve(listener, router).await.unwrap() });
        let issuer = Self { url, served, _tasks: tasks };
        issuer.has(keys);
        issuer
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn has(&self, keys: &[(&str, &Signer)]) {
        let keys = keys.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
        self.change(|served| served.keys = keys);
    }

    pub(super) fn asked(&self) -> usize {
        self.served.lock().unwrap().asked
    }

    pub(super) fn config(&self) -> Config {
        let provider = ProviderConfig {
            name: "example".to_owned(),
            issuer: self.url.clone(),
            client_ids: vec!["parlor-web".to_owned(), "parlor-app".to_owned()],
        };
        Config { oidc: vec![provider], ..config() }
    }

    /// What a good token for somebody says. No two of them are the same.
    pub(super) fn claims(&self, subject: &str) -> Value {
        let now = START.as_millis() / 1000;
        let id = UserId::generate().to_string();
        json!({
            "iss": self.url, "sub": subject, "aud": "parlor-web", "iat": now, "exp": now + 3600 * 24, "jti": id,
        })
    }

    pub(super) fn token(&self, signer: &Signer, kid: &str, subject: &str) -> String {
        signer.token(&json!({"alg": signer.algorithm(), "kid": kid}), &self.claims(subject))
    }
}

type Kept = State<Arc<Mutex<Served>>>;

async fn discover(State(served): Kept) -> Result<String, StatusCode> {
    let served = served.lock().unwrap();
    if served.is_down { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(served.discovery.to_string()) }
}

async fn serve_keys(State(served): Kept) -> Result<String, StatusCode> {
    let mut served = served.lock().unwrap();
    served.asked += 1;
    if let Some(clock) = &served.clock {
        clock.advance(Duration::from_secs(1));
    }
    let keys = json!({ "keys": served.keys });
    if served.is_down { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(keys.to_string()) }
}
