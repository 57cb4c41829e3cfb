//! Mails: what they say, and sending them over SMTP.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use chassis::clock::Timestamp;
use chassis::config::Secret;
use chassis::profile::Profile;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use proto::id::ErrandId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::email::Email;
use crate::errand::Outcome;
use crate::otp::{Code, LIFETIME, Purpose};
use crate::username::Username;

/// How mails are sent. Without an address of a server none are; then nobody can verify an address or set a password with
/// a code, but in development, where the code is in the answer.
///
/// ```toml
/// [service.mail]
/// smtp_url = "smtp://mail.example.org:587"   # STARTTLS is required; smtps://mail.example.org:465 begins with TLS
/// from = "Parlor <no-reply@example.org>"
/// username = "parlor"
/// password_file = "/run/secrets/smtp-password"
/// timeout = "10s"
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// `smtp://host[:port]` (port 587 unless said) or `smtps://host[:port]` (465). With `smtp://` the connection must
    /// change to TLS before anything is said; in development it may, and to a loopback address it does not. No user and
    /// no password in it.
    pub smtp_url: Option<String>,
    /// Who mails come from: `no-reply@example.org`, or `Parlor <no-reply@example.org>`.
    pub from: Option<String>,
    /// The user to sign in to the server with, if it wants one.
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
    /// A file with that password, readable by its owner only.
    pub password_file: Option<PathBuf>,
    /// How long each step of sending a mail may take, such as `10s`; at most `30s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            smtp_url: None,
            from: None,
            username: None,
            password: None,
            password_file: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl MailConfig {
    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let password = match (&self.password, &self.password_file) {
            (Some(password), None) => Some(password.clone()),
            (None, Some(path)) => Some(Secret::read(path)?),
            (None, None) => None,
            (Some(_), Some(_)) => anyhow::bail!("set mail.password or mail.password_file, not both"),
        };
        match (&self.username, password) {
            (Some(user), Some(password)) => {
                Ok(Some(Credentials::new(user.clone(), password.expose().to_owned())))
            }
            (None, None) => Ok(None),
            _ => anyhow::bail!("mail.username and its password go together"),
        }
    }
}

/// A mail to send.
#[derive(Clone, Serialize, Deserialize)]
pub struct Letter {
    /// To whom; the address as it was typed.
    to: String,
    /// Whether anybody has that address. If not, it is not sent.
    has_reader: bool,
    subject: String,
    text: String,
}

impl std::fmt::Debug for Letter {
    // Neither addresses nor codes belong into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter(***)")
    }
}

impl Letter {
    /// A mail with a code: to somebody's address, or to an address that nobody has. Names the account that it is about.
    pub fn with_code(
        to: Result<Email, Email>,
        purpose: Purpose,
        code: &Code,
        account: Option<&Username>,
    ) -> Self {
        let account = account.map(|name| format!(" {}", name.as_str())).unwrap_or_default();
        let what_for = match purpose {
            Purpose::VerifyEmail => format!("verifies this e-mail address for the account{account}"),
            Purpose::ResetPassword => format!("sets a new password for your account{account}"),
            Purpose::SignUp => "confirms this e-mail address for a new account".to_owned(),
        };
        let (code, minutes) = (code.as_str(), LIFETIME.as_secs() / 60);
        let text = format!(
            "Your code is {code}\n\n\
             It {what_for}. It works once, within {minutes} minutes.\n\
             Tell it to nobody. If you did not ask for it, you need not do anything.\n"
        );
        let has_reader = to.is_ok();
        let (Ok(email) | Err(email)) = to;
        Self { to: email.as_str().to_owned(), has_reader, subject: subject(purpose).to_owned(), text }
    }

    /// A mail in place of a code: several accounts claim the address.
    pub fn of_several(to: &Email, purpose: Purpose) -> Self {
        let text = "You asked for a code. Several accounts give this e-mail address as theirs, and none of them has \
                    verified it.\n\n\
                    Ask again, and give the username of your account too.\n\
                    If you did not ask for it, you need not do anything.\n"
            .to_owned();
        Self { to: to.as_str().to_owned(), has_reader: true, subject: subject(purpose).to_owned(), text }
    }

    /// A mail to the owner of an address that another account claims, or to an address that nobody has.
    pub fn of_claim(to: Result<Email, Email>, claimed_by: Option<&Username>) -> Self {
        let account = claimed_by.map(|name| format!(" {}", name.as_str())).unwrap_or_default();
        let text = format!(
            "The account{account} gives this e-mail address as its own. You have an account with this address already, and \
             it stays with that account.\n\n\
             If that was you, sign in to the account that you have; when you have forgotten its password, ask for a new one.\n\
             If not, you need not do anything.\n"
        );
        let has_reader = to.is_ok();
        let (Ok(email) | Err(email)) = to;
        let subject = "Your e-mail address was given for another account".to_owned();
        Self { to: email.as_str().to_owned(), has_reader, subject, text }
    }

    /// A mail to an address that is not a user's any more.
    pub fn of_replaced(to: &Email, username: Option<&Username>) -> Self {
        let whose = username.map(|name| format!(" {}", name.as_str())).unwrap_or_default();
        let text = format!(
            "The account{whose} does not use this e-mail address any more: another one, or none, has taken its place.\n\n\
             If that was you, you need not do anything.\n\
             If not, somebody else is in your account: sign in, change the password, and ask those who run this service.\n"
        );
        let subject = "Your e-mail address was replaced".to_owned();
        Self { to: to.as_str().to_owned(), has_reader: true, subject, text }
    }
}

/// The subject of a mail with a code.
const fn subject(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::VerifyEmail => "Verify your e-mail address",
        Purpose::ResetPassword => "Set a new password",
        Purpose::SignUp => "Confirm your e-mail address",
    }
}

/// Sends mails.
#[derive(Clone, Debug)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// A way to the server that is configured, if one is.
    pub fn new(config: &MailConfig, profile: Profile) -> anyhow::Result<Option<Self>> {
        let Some(url) = &config.smtp_url else { return Ok(None) };
        let from = config.from.as_deref().context("mail.from must say who mails come from")?;
        let from = from.parse().context("mail.from must be an address, or a name and an <address>")?;
        anyhow::ensure!(
            !config.timeout.is_zero() && config.timeout <= Duration::from_secs(30),
            "mail.timeout must be more than nothing and at most 30s"
        );
        let Server { host, port, security } = Server::parse(url, profile)?;
        let parameters = || TlsParameters::new_rustls(host.clone()).context("TLS for mail.smtp_url");
        let tls = match security {
            Security::Wrapped => Tls::Wrapper(parameters()?),
            Security::Required => Tls::Required(parameters()?),
            Security::Offered => Tls::Opportunistic(parameters()?),
            Security::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .timeout(Some(config.timeout));
        if let Some(credentials) = config.credentials()? {
            builder = builder.credentials(credentials);
        }
        Ok(Some(Self { transport: builder.build(), from }))
    }

    /// Sends a mail. The same errand is the same mail, however often it is sent.
    pub async fn send(&self, letter: &Letter, id: ErrandId, now: Timestamp) -> Outcome {
        if !letter.has_reader {
            return Outcome::Done;
        }
        // An address that no mail server takes, or that would be more than an address.
        let Ok(to) = letter.to.parse::<Address>() else {
            return Outcome::Refused("the address is none that a mail can be sent to".to_owned());
        };
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject.clone())
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .date(UNIX_EPOCH + now.since(Timestamp::from_millis(0)))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text.clone());
        let message = match message {
            Ok(message) => message,
            Err(error) => return Outcome::Refused(format!("it cannot be written: {error}")),
        };
        match self.transport.send(message).await {
            Ok(_) => Outcome::Done,
            // What the server says may repeat the address.
            Err(error) if error.is_permanent() => Outcome::Refused(match error.status() {
                Some(code) => format!("the mail server refuses it: {code}"),
                None => "the mail server refuses it".to_owned(),
            }),
            Err(error) => Outcome::Again(match error.status() {
                Some(code) => format!("the mail server puts it off: {code}"),
                None if error.is_tls() => "the mail server does not speak TLS as it should".to_owned(),
                None if error.is_timeout() => "the mail server takes too long".to_owned(),
                None => "the mail server cannot be reached".to_owned(),
            }),
        }
    }
}

/// A mail server, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    security: Security,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// With the connection.
    Wrapped,
    /// Before anything is said, or nothing is.
    Required,
    /// When the server offers it.
    Offered,
    /// Never.
    None,
}

impl Server {
    fn parse(url: &str, profile: Profile) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("mail.smtp_url must be smtp://host:port or smtps://host:port")?;
        anyhow::ensure!(
            url.username().is_empty() && url.password().is_none(),
            "mail.smtp_url must not hold a user or a password: set mail.username and mail.password_file"
        );
        anyhow::ensure!(
            url.query().is_none() && url.fragment().is_none() && matches!(url.path(), "" | "/"),
            "mail.smtp_url ends after the port"
        );
        let text =
            url.host_str().filter(|host| !host.is_empty()).context("mail.smtp_url must name a host")?;
        // What is no name to the parser of web addresses (only they have IP addresses in them) is parsed here.
        let host = text.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback = match host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => matches!(url.host(), Some(Host::Domain("localhost"))),
        };
        let (default, security) = match (url.scheme(), profile) {
            ("smtps", _) => (465, Security::Wrapped),
            ("smtp", _) if is_loopback => (587, Security::None),
            ("smtp", Profile::Development) => (587, Security::Offered),
            ("smtp", Profile::Production) => (587, Security::Required),
            _ => anyhow::bail!("mail.smtp_url must begin with smtp:// or smtps://"),
        };
        Ok(Self { host, port: url.port().unwrap_or(default), security })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str, profile: Profile) -> (String, u16, Security) {
        let Server { host, port, security } = Server::parse(url, profile).unwrap();
        (host, port, security)
    }

    #[test]
    fn nothing_goes_over_a_network_without_tls() {
        use Profile::{Development, Production};
        let name = "mail.example.org".to_owned();
        let at = |port, security| (name.clone(), port, security);
        assert_eq!(server("smtp://mail.example.org", Production), at(587, Security::Required));
        assert_eq!(server("smtp://mail.example.org:25", Development), at(25, Security::Offered));
        assert_eq!(server("smtps://mail.example.org", Production), at(465, Security::Wrapped));
        for loopback in ["127.0.0.1", "localhost", "[::1]"] {
            let (_, port, security) = server(&format!("smtp://{loopback}:2525"), Production);
            assert_eq!((port, security), (2525, Security::None), "{loopback}");
        }
        assert_eq!(server("smtp://10.0.0.1", Production).2, Security::Required);
    }

    #[test]
    fn an_address_that_says_more_is_refused() {
        for url in [
            "mail.example.org",
            "http://mail.example.org",
            "smtp://",
            "smtp://ann:pw@mail.example.org",
            "smtp://ann@mail.example.org",
            "smtp://mail.example.org/x",
            "smtp://mail.example.org?tls=none",
        ] {
            assert!(Server::parse(url, Profile::Development).is_err(), "{url}");
        }
    }

    #[test]
    fn a_server_needs_a_sender_and_whole_credentials() {
        let config = MailConfig { smtp_url: Some("smtp://127.0.0.1:25".to_owned()), ..MailConfig::default() };
        let new = |config: &MailConfig| Mailer::new(config, Profile::Production);
        assert!(new(&MailConfig::default()).unwrap().is_none());
        assert!(new(&config).is_err());
        let config = MailConfig { from: Some("Parlor <no-reply@example.org>".to_owned()), ..config };
        assert!(new(&config).unwrap().is_some());
        assert!(new(&MailConfig { username: Some("ann".to_owned()), ..config.clone() }).is_err());
        assert!(new(&MailConfig { from: Some("nobody".to_owned()), ..config.clone() }).is_err());
        assert!(new(&MailConfig { timeout: Duration::ZERO, ..config }).is_err());
    }

    #[test]
    fn a_letter_shows_nothing_in_a_log() {
        let email = Email::parse("email", "ann@example.org").unwrap();
        let letter =
            Letter::with_code(Ok(email), Purpose::VerifyEmail, &Code::parse("123456").unwrap(), None);
        assert_eq!(format!("{letter:?}"), "Letter(***)");
        assert!(letter.text.contains("123456") && !letter.subject.contains("123456"));
    }
}
