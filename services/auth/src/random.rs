//! Random numbers of the operating system.

use anyhow::Context;

/// So many random bytes.
pub fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the operating system gives no random numbers")?;
    Ok(bytes)
}

/// Letters and digits without those that are taken for others (i, l, o, u): five bits each.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// So many random characters of [`ALPHABET`].
pub fn text<const N: usize>() -> anyhow::Result<String> {
    Ok(bytes::<N>()?.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// A random number below `bound`, each as likely as the others.
pub fn below(bound: u32) -> anyhow::Result<u32> {
    anyhow::ensure!(bound > 0, "no number is below nothing");
    // What is above the last whole multiple would make small numbers likelier.
    let end = u32::MAX - u32::MAX % bound;
    loop {
        let number = u32::from_be_bytes(bytes()?);
        if number < end {
            return Ok(number % bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_the_bound_comes_and_none_above() {
        let mut seen = [0; 7];
        for _ in 0..7000 {
            seen[usize::try_from(below(7).unwrap()).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (700..1300).contains(count)), "{seen:?}");
        assert_eq!(below(1).unwrap(), 0);
        assert!(below(0).is_err());
    }
}
