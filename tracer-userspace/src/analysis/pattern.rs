// SPDX-License-Identifier: Apache-2.0
//! Patterns for tests and sites, as users write them.

use std::fmt;

use super::Site;

/// A text to look for: with `*`, which stands for anything, it must match as a whole; without, it must be contained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes what a user wrote.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The same, but refuses to match everything.
    ///
    /// # Errors
    ///
    /// The text is empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("an empty pattern matches everything".to_owned()) } else { Ok(Self::new(text)) }
    }

    /// Whether it matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if !self.0.contains('*') {
            return text.contains(&self.0);
        }
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let last = parts.pop().unwrap_or("");
        for part in parts {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which sites: an id, or patterns for functions from the inside out, joined by ` < `, with any functions in between:
/// `Cache::clear < test_unload*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePattern {
    text: String,
    parts: Vec<Pattern>,
}

impl SitePattern {
    /// Takes what a user wrote.
    ///
    /// # Errors
    ///
    /// If it has an empty part, which would match every function.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(" < ").map(str::trim).collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err("a site is its id, or names of functions, innermost first, joined by ` < `".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts: parts.into_iter().map(Pattern::new).collect() })
    }

    /// Whether it matches. The order of the functions counts; each part takes the first that it can.
    #[must_use]
    pub fn matches(&self, site: &Site) -> bool {
        let mut frames = site.frames.iter();
        self.text == site.id || self.parts.iter().all(|part| frames.any(|frame| part.matches(frame)))
    }
}

impl fmt::Display for SitePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, matches) in [
            ("one", "t.py::one[a]", true),
            ("two", "t.py::one[a]", false),
            ("t.py::*", "t.py::one", true),
            ("*one", "t.py::one[a]", false),
            ("*::*[a]", "t.py::one[a]", true),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("*a*a*", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn a_site_is_its_id_or_its_functions_in_order() {
        let frames = ["Buffer::free", "Cache::clear", "Model.unload (m.py)", "test_it (t.py)"];
        let site = Site {
            id: "00112233aabb".to_owned(),
            name: String::new(),
            frames: frames.map(str::to_owned).to_vec(),
            exact: true,
        };
        for (pattern, matches) in [
            ("00112233aabb", true),
            ("00112233aabc", false),
            ("Cache::clear", true),
            ("Cache::* < test_it*", true),
            ("test_it < Cache::clear", false),
            ("Cache::clear < Cache::clear", false),
            ("*(m.py)", true),
        ] {
            assert_eq!(SitePattern::parse(pattern).expect("parsed").matches(&site), matches, "{pattern}");
        }
        assert!(SitePattern::parse("a <  < b").is_err() && SitePattern::parse("").is_err());
    }
}
