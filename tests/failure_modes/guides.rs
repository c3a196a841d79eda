//! The guides name the tests that show what they say, and fit on a page.

use std::{
    collections::BTreeSet,
    fs::{read_dir, read_to_string},
    path::{Path, PathBuf},
};

/// Those of which every row and every point names a test.
const GUIDES: [&str; 2] = ["failure_modes", "security"];

#[test]
fn every_test_that_a_guide_names_exists() {
    for guide in GUIDES.into_iter().chain(["composing"]) {
        let text = text(guide);
        let named: Vec<_> = named(&text).collect();
        assert!(named.len() > 10, "{guide} names {} tests", named.len());
        for (target, test) in named {
            let files = sources(target);
            assert!(!files.is_empty(), "{guide}: there is no {target}");
            let test_is_in = |file: &PathBuf| {
                let text = read_to_string(file).unwrap();
                let head = format!("fn {test}(");
                let mut parts = text.split(&head);
                let before = parts.next().unwrap();
                let attribute = before.rsplit("\n\n").next().unwrap();
                parts.next().is_some() && attribute.contains("test")
            };
            assert!(
                files.iter().any(test_is_in),
                "{guide}: {target} has no test {test}"
            );
        }
    }
}

#[test]
fn every_row_and_every_point_of_a_guide_names_a_test() {
    for guide in GUIDES {
        let text = text(guide);
        // What follows is not the crate's to show.
        let (promises, _) = text
            .split_once("\n# What this crate does not do")
            .unwrap_or((&text, ""));
        for part in promises.split("\n\n") {
            let body: Vec<_> = if part.starts_with('|') {
                part.lines().skip(2).collect()
            } else if part.starts_with("- ") {
                part.split("\n- ").collect()
            } else {
                continue;
            };
            for line in body {
                let shown = notes(line).count() > 0 || line.contains("No test shows this");
                assert!(shown, "{guide}: {line}");
            }
        }
    }
}

#[test]
fn every_note_of_a_guide_is_one_test_and_every_test_is_noted() {
    for guide in GUIDES.into_iter().chain(["composing"]) {
        let text = text(guide);
        let (body, tests) = text.split_once("\n# Tests\n").unwrap();
        let noted: BTreeSet<_> = notes(body).collect();
        let mut listed = BTreeSet::new();
        for line in tests.lines().filter(|line| line.starts_with("[^")) {
            let (note, test) = line.split_once("]: ").unwrap();
            let names: Vec<_> = named(test).map(|(_, test)| test).collect();
            assert_eq!(names, [&note[2..]], "{guide}");
            assert!(listed.insert(names[0]), "{guide}: {line}");
        }
        assert_eq!(noted, listed, "{guide}");
    }
}

/// docs.rs shows 94 columns at a window's width of 1280, and GitHub 80 beside a README.
#[test]
fn no_code_block_of_the_documentation_needs_scrolling() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(&root.join("src"), "rs", &mut sources);
    collect(&root.join("src/docs"), "md", &mut sources);
    let pages = sources.into_iter().map(|page| (page, 94));
    for (page, columns) in pages.chain([(root.join("README.md"), 80)]) {
        let text = read_to_string(&page).unwrap();
        let is_source = page.extension().is_some_and(|ending| ending == "rs");
        let lines = text.lines().filter_map(|line| match is_source {
            true => doc_comment(line),
            false => Some(line),
        });
        let mut language = None;
        for line in lines {
            if let Some(name) = line.trim_start().strip_prefix("```") {
                language = language.is_none().then_some(name);
                continue;
            }
            // Drawings in source files are for those who read the source.
            let is_shown = match language {
                None => false,
                Some("text") => !is_source,
                Some(_) => !line.trim_start().starts_with("# "),
            };
            let fits = line.chars().count() <= columns;
            assert!(fits || !is_shown, "{}: {line}", page.display());
        }
    }
}

fn doc_comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("///").or(line.strip_prefix("//!"))?;
    Some(text.strip_prefix(' ').unwrap_or(text))
}

/// The names of the footnotes that a text refers to.
fn notes(text: &str) -> impl Iterator<Item = &str> {
    let notes = text.split("[^").skip(1);
    notes.map(|note| note.split(']').next().unwrap())
}

fn text(guide: &str) -> String {
    let file = format!("src/docs/{guide}.md");
    read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// `target::test`, both in lower case.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|code| {
        let (target, test) = code.split_once("::")?;
        let is_name = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        (is_name(target) && is_name(test) && test.matches('_').count() > 2)
            .then_some((target, test))
    })
}

/// The files of a test target.
fn sources(target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    match target {
        "lib" => collect(&root.join("src"), "rs", &mut found),
        // Some tests are in the crate, and some in packages with clients that it does not depend on.
        "clients" => {
            collect(&root.join("tests/clients"), "rs", &mut found);
            collect(&root.join("tests/compose/tests"), "rs", &mut found);
        }
        "zeroization" => collect(&root.join("tests/bare/tests"), "rs", &mut found),
        target => {
            let file = root.join(format!("tests/{target}.rs"));
            if file.exists() {
                found.push(file);
            } else {
                collect(&root.join("tests").join(target), "rs", &mut found);
            }
        }
    }
    found
}

/// The files of a folder, and of those in it, with this ending.
fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.extension().is_some_and(|found| found == ending) {
            found.push(path);
        }
    }
}
