//! Converts the Brown corpus to plain text.
//!
//! The corpus has 500 files of about 2000 words, named `ca01` to `cr09`; the second letter is the genre. A line is a sentence
//! of tagged words, `The/at jury/nn said/vbd ./.`; a paragraph starts with a tab. Question marks, exclamation marks and
//! semicolons are doubled, quotes are ``` `` ``` and `''`, and a closing quote precedes the punctuation that it followed in
//! print.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Error;
use crate::output::Output;

/// Converts the corpus in folder `corpus` to two texts in the folder `to`: `score.txt` has the files with even numbers,
/// `calibrate.txt` those with odd numbers. So both have all genres and share no document. Returns the number of documents
/// of each.
///
/// # Errors
/// [`Error::Io`]; [`Error::Invalid`] if `corpus` has no files of the corpus.
pub fn split(corpus: &Path, to: &Path) -> Result<[usize; 2], Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(corpus).map_err(Error::io(corpus, "read"))? {
        let name = entry.map_err(Error::io(corpus, "read"))?.file_name();
        names.extend(name.to_str().and_then(|name| Some((name.to_owned(), number(name)?))));
    }
    names.sort();
    let mut texts = [String::new(), String::new()];
    let mut documents = [0, 0];
    for (name, number) in names {
        let path = corpus.join(name);
        let tagged = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        texts[number % 2] += &plain(&tagged);
        documents[number % 2] += 1;
    }
    if documents.contains(&0) {
        return Err(Error::invalid(corpus, "Brown corpus")("files ca01 to cr09 are missing"));
    }
    fs::create_dir_all(to).map_err(Error::io(to, "write"))?;
    Output::write(&to.join("score.txt"), &texts[0])?;
    Output::write(&to.join("calibrate.txt"), &texts[1])?;
    Ok(documents)
}

/// Returns the number of a file of the corpus: 7 for `cb07`.
fn number(name: &str) -> Option<usize> {
    match name.as_bytes() {
        [b'c', b'a'..=b'r', digits @ ..] if digits.len() == 2 => name[2..].parse().ok(),
        _ => None,
    }
}

/// Converts a tagged document to text: paragraphs, each followed by an empty line.
#[must_use]
pub fn plain(tagged: &str) -> String {
    let mut text = String::new();
    for paragraph in paragraphs(tagged) {
        let words = in_print_order(paragraph);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}\n", join(&words));
    }
    text
}

/// Returns the words of each paragraph or headline, without tags.
fn paragraphs(tagged: &str) -> Vec<Vec<&str>> {
    let mut paragraphs: Vec<Vec<&str>> = Vec::new();
    let mut after_headline = true;
    for line in tagged.lines() {
        let tokens: Vec<(&str, &str)> =
            line.split_whitespace().filter_map(|token| token.rsplit_once('/')).collect();
        if tokens.is_empty() {
            continue;
        }
        let headline = tokens.iter().all(|(_, tag)| tag.ends_with("-hl"));
        // `**` starts the code of a symbol that the corpus cannot represent.
        let words = tokens.into_iter().map(|(word, _)| word).filter(|word| !word.starts_with("**"));
        match paragraphs.last_mut() {
            Some(last) if !line.starts_with('\t') && headline == after_headline => {
                last.extend(words);
            }
            _ => paragraphs.push(words.collect()),
        }
        after_headline = headline;
    }
    paragraphs
}

/// Removes doubled punctuation, and moves punctuation before the closing quote.
fn in_print_order(words: Vec<&str>) -> Vec<&str> {
    let mut ordered: Vec<&str> = Vec::with_capacity(words.len());
    for word in words {
        match (ordered.as_slice(), word) {
            ([.., last], ";" | ":" | "?" | "!") if *last == word => {}
            ([.., before, "''"], "?" | "!") if *before == word => {}
            ([.., "''"], "," | "." | "?" | "!") => {
                ordered.insert(ordered.len() - 1, word);
            }
            _ => ordered.push(word),
        }
    }
    ordered
}

/// Joins words with the spaces of English print.
fn join(words: &[&str]) -> String {
    let mut text = String::new();
    let mut quoted = false;
    let mut space = false;
    for &word in words {
        let opens = matches!(word, "(" | "[" | "``") || (word == "'" && !quoted);
        let closes =
            matches!(word, "," | "." | ";" | ":" | "?" | "!" | "%" | ")" | "]" | "''" | "'")
                && !opens;
        if space && !closes {
            text.push(' ');
        }
        quoted ^= word == "'";
        text.push_str(if matches!(word, "``" | "''") { "\"" } else { word });
        space = !opens;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tagged_text_reads_like_print() {
        let tagged = "\n\n\t``/`` Everything/pn went/vbd real/ql smooth/jj ''/'' ,/, the/at \
                      sheriff/nn said/vbd ./.\n``/`` There/ex wasn't/bedz* (/( a/at bit/nn )/) of/in \
                      trouble/nn ''/'' ?/. ?/.\n\n\nMerger/nn-hl proposed/vbn-hl \nAsk/vb and/or/cc \
                      '/' tell/vb '/' ;/. ;/.\nthis/dt --/-- now/rb ./.\n\n\n\tNext/ap **zg/zz ./.\n";
        let expected = "\"Everything went real smooth,\" the sheriff said. \"There wasn't (a bit) of \
                        trouble?\"\n\nMerger proposed\n\nAsk and/or 'tell'; this -- now.\n\nNext.\n\n";
        assert_eq!(plain(tagged), expected);
        assert_eq!(plain("no tags\n"), "");
    }

    #[test]
    fn documents_go_by_their_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let (corpus, out) = (directory.path().join("brown"), directory.path().join("out"));
        fs::create_dir(&corpus).unwrap();
        assert!(matches!(split(&corpus, &out), Err(Error::Invalid { .. })));
        for (name, text) in [("ca01", "one/cd"), ("cb02", "two/cd"), ("cr09", "nine/cd")] {
            fs::write(corpus.join(name), text).unwrap();
        }
        fs::write(corpus.join("cats.txt"), "cat/nn").unwrap();
        assert_eq!(split(&corpus, &out).unwrap(), [1, 2]);
        assert_eq!(fs::read_to_string(out.join("score.txt")).unwrap(), "two\n\n");
        assert_eq!(fs::read_to_string(out.join("calibrate.txt")).unwrap(), "one\n\nnine\n\n");
    }
}
