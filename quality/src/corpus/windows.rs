//! Tokenizes texts and cuts them into windows.

use std::fs;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::Error;

/// The tokens of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens that start every text: the BOS token, if the model was trained with one.
    pub prefix: Vec<u32>,
    /// The tokens of the text, without special tokens.
    pub text: Vec<u32>,
}

impl Tokens {
    /// Reads texts, concatenates them, and tokenizes them with the `tokenizer.json` of `folder`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Invalid`].
    pub fn read(folder: &Path, texts: &[PathBuf]) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        let bytes = fs::read(&path).map_err(Error::io(&path, "read"))?;
        let invalid = || Error::invalid(&path, "tokenizer.json");
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(invalid())?;
        let encode = |text: &str, special| -> Result<Vec<u32>, Error> {
            let encoding = tokenizer.encode_fast(text, special).map_err(invalid())?;
            Ok(encoding.get_ids().to_vec())
        };
        let mut whole = String::new();
        for path in texts {
            let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
            whole.push_str(&text);
        }
        let prefix = before(&encode("a", true)?, &encode("a", false)?).to_vec();
        Ok(Self { prefix, text: encode(&whole, false)? })
    }

    /// Cuts `count` windows of `length` tokens each, prefix included, evenly distributed over the text and without overlap.
    /// Without `count`, cuts as many as the text has.
    ///
    /// # Errors
    /// [`Error::TooShort`] if the text has fewer windows, or none.
    pub fn windows(&self, count: Option<usize>, length: usize) -> Result<Windows, Error> {
        let taken = length.saturating_sub(self.prefix.len());
        let context = self.prefix.len().max(1);
        let tokens = self.text.len();
        // A window must have a token to score.
        let available = if length > context { tokens / taken } else { 0 };
        let asked = count.unwrap_or(available);
        if asked > available || asked == 0 {
            return Err(Error::TooShort { tokens, available, length, asked });
        }
        let window = |i: usize| {
            let start = i * tokens / asked;
            [&self.prefix, &self.text[start..start + taken]].concat()
        };
        Ok(Windows { context, tokens: (0..asked).map(window).collect() })
    }
}

/// Returns the tokens of `special` before `plain`.
fn before<'a>(special: &'a [u32], plain: &[u32]) -> &'a [u32] {
    let at = special.windows(plain.len().max(1)).position(|window| window == plain);
    &special[..at.unwrap_or(0)]
}

/// Windows of tokens, all of the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Number of tokens at the start of each window that are not scored.
    pub context: usize,
    /// The tokens of each window.
    pub tokens: Vec<Vec<u32>>,
}

impl Windows {
    /// Returns the number of scored tokens of all windows.
    #[must_use]
    pub fn scored(&self) -> usize {
        self.tokens.iter().map(|window| window.len().saturating_sub(self.context)).sum()
    }

    /// Returns a checksum of all tokens. Measurements can be compared only if it is the same.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let add = |crc, &token: &u32| crc32c::crc32c_append(crc, &token.to_le_bytes());
        self.tokens.iter().flatten().fold(0, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(prefix: &[u32], count: u32) -> Tokens {
        Tokens { prefix: prefix.to_vec(), text: (100..100 + count).collect() }
    }

    #[test]
    fn windows_are_disjoint_and_spread_over_the_text() {
        for (count, length) in [(1, 10), (3, 30), (7, 14), (10, 10), (4, 7)] {
            let windows = tokens(&[], 103).windows(Some(count), length).unwrap();
            assert_eq!((windows.tokens.len(), windows.context), (count, 1));
            assert_eq!(windows.scored(), count * (length - 1));
            let mut next = 100;
            for window in &windows.tokens {
                assert_eq!(window.len(), length);
                assert!(window[0] >= next, "windows overlap");
                assert!(window[0] - next <= 103 / count as u32 + 1 - length as u32);
                assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1));
                next = window[length - 1] + 1;
            }
        }
    }

    #[test]
    fn all_windows_and_no_more() {
        assert_eq!(tokens(&[], 103).windows(None, 10).unwrap().tokens.len(), 10);
        for (count, length) in [(Some(11), 10), (None, 104), (None, 1), (None, 0), (Some(0), 10)] {
            let windows = tokens(&[], 103).windows(count, length);
            assert!(matches!(windows, Err(Error::TooShort { .. })), "{count:?} {length}");
        }
    }

    #[test]
    fn the_prefix_starts_every_window_and_is_context() {
        let windows = tokens(&[1, 2], 100).windows(Some(2), 12).unwrap();
        assert_eq!(windows.context, 2);
        assert_eq!(windows.tokens[1][..3], [1, 2, 150]);
        assert_eq!(windows.scored(), 20);
        assert_eq!(before(&[1, 9, 5, 2], &[9, 5]), [1]);
        assert!(before(&[9, 5], &[9, 5]).is_empty());
    }

    #[test]
    fn checksums_tell_tokens_apart() {
        let windows = tokens(&[], 100).windows(Some(2), 12).unwrap();
        let mut other = windows.clone();
        assert_eq!(windows.checksum(), other.checksum());
        other.tokens[1][3] += 1;
        assert_ne!(windows.checksum(), other.checksum());
    }
}
