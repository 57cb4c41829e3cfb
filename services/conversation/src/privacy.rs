//! What a person lets others do.

/// What a person lets others do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// Who may write first.
    pub first_contact: FirstContact,
    /// Who sees whether the person is there.
    pub presence: Visibility,
}

/// Who may write to a person first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstContact {
    /// Everyone.
    #[default]
    Everyone,
    /// Whoever is connected with the person, and whose message request it accepted.
    AfterRequest,
}

impl FirstContact {
    /// Whether strangers have to ask first.
    pub fn is_gated(self) -> bool {
        self == Self::AfterRequest
    }
}

/// Who sees whether a person is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Everyone.
    #[default]
    Everyone,
    /// Whoever is connected with the person.
    Connections,
    /// Only the person.
    Nobody,
}

/// New values; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivacyChanges {
    /// Who may write first.
    pub first_contact: Option<FirstContact>,
    /// Who sees whether the person is there.
    pub presence: Option<Visibility>,
}
