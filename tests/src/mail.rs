//! The mail server that `tests/run` starts: Parlor sends to it, and stories read what has arrived.

use std::path::PathBuf;

use crate::waiting::until;

/// A mail server and the folder of its mails, a Maildir.
#[derive(Clone, Debug)]
pub struct MailServer {
    url: String,
    folder: PathBuf,
}

/// The mail server. Where there is none, this says so, and a story leaves out what takes one.
#[expect(clippy::print_stderr, reason = "a story that is left out says why")]
pub fn server() -> Option<MailServer> {
    match (std::env::var("PARLOR_TEST_SMTP"), std::env::var("PARLOR_TEST_MAILDIR")) {
        (Ok(url), Ok(folder)) => Some(MailServer { url, folder: folder.into() }),
        _ => {
            eprintln!(
                "left out: PARLOR_TEST_SMTP and PARLOR_TEST_MAILDIR are not set (tests/run starts a mail server)"
            );
            None
        }
    }
}

impl MailServer {
    /// The settings of a world that sends its mails there. The secret is what production requires for mail.
    pub fn settings(&self) -> [(&str, &str); 3] {
        [
            ("auth.mail.smtp_url", &self.url),
            ("auth.mail.from", "Parlor <no-reply@example.org>"),
            ("auth.vault.secret", "a secret of a world that is for tests only"),
        ]
    }

    /// Waits for the mail to an address that gets one mail, and gives the code in it.
    ///
    /// # Panics
    /// When no mail with a code arrives.
    pub async fn code_for(&self, address: &str) -> String {
        let mail = until("a mail", async || self.mail_to(address)).await;
        let after = mail.split_once("Your code is ").expect("a code in the mail").1;
        after.chars().take_while(char::is_ascii_digit).collect()
    }

    fn mail_to(&self, address: &str) -> Option<String> {
        let to = format!("To: {address}");
        let files = std::fs::read_dir(self.folder.join("new")).ok()?;
        let mut texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        texts.find(|text| text.lines().any(|line| line == to))
    }
}
