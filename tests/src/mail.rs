//! The mail server that `tests/run` starts: Parlor sends to it, and stories read what has arrived.

use std::path::PathBuf;

use crate::waiting::until;

/// The words before a code.
const CODE: &str = "Your code is ";

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

    /// Waits for a mail with a code to an address, takes it out of the folder, and gives the code.
    ///
    /// # Panics
    /// When no mail with a code arrives.
    pub async fn code_for(&self, address: &str) -> String {
        let mail = until("a mail", async || self.take_mail_to(address)).await;
        let after = mail.split_once(CODE).expect("a code in the mail").1;
        after.chars().take_while(char::is_ascii_alphanumeric).collect()
    }

    /// Takes a mail with a code out of the folder, so that the next one is found after it.
    fn take_mail_to(&self, address: &str) -> Option<String> {
        let to = format!("To: {address}");
        let files = std::fs::read_dir(self.folder.join("new")).ok()?.filter_map(Result::ok);
        let mut mails =
            files.filter_map(|file| Some((file.path(), std::fs::read_to_string(file.path()).ok()?)));
        let (path, text) =
            mails.find(|(_, text)| text.contains(CODE) && text.lines().any(|line| line == to))?;
        std::fs::remove_file(path).ok()?;
        Some(text)
    }
}
