//! The issuer's book.

use std::time::Duration;

/// Tokens are numbered from 1; their values are `token-1` and so on.
#[derive(Debug, Default)]
pub(crate) struct IssuedTokens(Vec<Token>);

#[derive(Clone, Copy, Debug)]
struct Token {
    expires: Duration,
    revoked: bool,
}

impl IssuedTokens {
    /// A new token that lives until `expires`.
    pub(crate) fn issue(&mut self, expires: Duration) -> usize {
        self.0.push(Token {
            expires,
            revoked: false,
        });
        self.0.len()
    }

    /// The last one, if it lives for a second at least, and how many seconds it lives.
    pub(crate) fn last(&self, now: Duration) -> Option<(usize, Duration)> {
        let left = self.0.last()?.expires.checked_sub(now)?.as_secs();
        (left > 0).then(|| (self.0.len(), Duration::from_secs(left)))
    }

    pub(crate) fn revoke_all(&mut self) {
        for token in &mut self.0 {
            token.revoked = true;
        }
    }

    pub(crate) fn is_valid(&self, number: usize, at: Duration) -> bool {
        let token = number.checked_sub(1).and_then(|index| self.0.get(index));
        token.is_some_and(|token| !token.revoked && at < token.expires)
    }

    /// The number of a token by its value; 0 for others.
    pub(crate) fn number(&self, value: &str) -> usize {
        let number = value
            .strip_prefix("token-")
            .and_then(|number| number.parse().ok());
        number.filter(|number| *number <= self.0.len()).unwrap_or(0)
    }
}
