//! The source is a house without circles: no file uses another that uses it in turn, directly or by way of others.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A module's path: `server::probe` as two names; the crate's root has none.
type Module = Vec<String>;

/// What a file says about others.
#[derive(Default)]
struct Source {
    /// The paths that it uses, as written.
    uses: Vec<String>,
    /// What it passes on by `pub use`: by its name there, the path of what that is.
    passes_on: BTreeMap<String, String>,
}

/// The files of the crate but for its tests, and the door that it opens for tests.
fn sources() -> BTreeMap<Module, Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut open) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !["tests", "reference"].contains(&name) {
                    open.push(path);
                }
            } else if name.ends_with(".rs")
                && !["tests.rs", "testing.rs", "main.rs"].contains(&name)
            {
                let inside = path.strip_prefix(&root).unwrap().with_extension("");
                let parts = inside.iter().map(|part| part.to_str().unwrap().to_owned());
                let module: Module = parts
                    .filter(|part| !["mod", "lib"].contains(&&**part))
                    .collect();
                found.insert(module, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let modules: BTreeSet<Module> = found.keys().cloned().collect();
    let read = |(module, text): (Module, String)| {
        let source = read(&text, &module, &modules);
        (module, source)
    };
    found.into_iter().map(read).collect()
}

fn read(text: &str, module: &Module, modules: &BTreeSet<Module>) -> Source {
    let without_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut source = Source::default();
    let mut body = String::new();
    let mut lines = without_tests
        .lines()
        .map(|line| line.split("//").next().unwrap().trim());
    let mut is_of_tests = false;
    while let Some(line) = lines.next() {
        let is_next_of_tests = line == "#[cfg(test)]";
        let (shown, tree) = match line.split_once("use ") {
            Some((shown, tree)) if shown.is_empty() || shown.starts_with("pub") => (shown, tree),
            _ => {
                body.push_str(line);
                body.push('\n');
                is_of_tests = is_next_of_tests;
                continue;
            }
        };
        let mut tree = tree.to_owned();
        while !tree.ends_with(';') {
            tree.push_str(lines.next().unwrap());
        }
        let tree = tree.trim_end_matches(';').replace(" as ", "@");
        let tree: String = tree.split_whitespace().collect();
        for path in expanded("", &tree).iter().filter(|_| !is_of_tests) {
            let (path, alias) = path.split_once('@').unwrap_or((path, ""));
            if shown.is_empty() {
                source.uses.push(path.to_owned());
            } else {
                let own = path.rsplit("::").next().unwrap();
                let name = if alias.is_empty() { own } else { alias };
                source.passes_on.insert(name.to_owned(), path.to_owned());
            }
        }
        is_of_tests = false;
    }
    // Where something is visible is no use.
    let body = body.replace("pub(in crate", "pub(in ");
    // What a macro writes is used where the macro is.
    let is_word = |c: char| c.is_alphanumeric() || ['_', ':', '$'].contains(&c);
    for word in body
        .split(|c| !is_word(c))
        .filter(|word| word.contains("::"))
    {
        let first = word.split("::").next().unwrap();
        let child = [module.as_slice(), &[first.to_owned()]].concat();
        if ["crate", "super", "self"].contains(&first) || modules.contains(&child) {
            source.uses.push(word.trim_end_matches(':').to_owned());
        }
    }
    source
}

/// The paths of a tree of uses: `a::{b, c::d}` is two.
fn expanded(before: &str, tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![format!("{before}{tree}")];
    };
    let head = format!("{before}{head}");
    // A line of a text may begin with the word as well.
    let Some(end) = rest.rfind('}') else {
        return Vec::new();
    };
    let inner = &rest[..end];
    let (mut paths, mut depth, mut part) = (Vec::new(), 0, String::new());
    for c in inner.chars().chain([',']) {
        if c == ',' && depth == 0 {
            if !part.is_empty() {
                paths.extend(expanded(&head, &std::mem::take(&mut part)));
            }
            continue;
        }
        depth += i32::from(c == '{') - i32::from(c == '}');
        part.push(c);
    }
    paths
}

/// A path from the crate's root; none where it leads out of the crate.
fn absolute(module: &Module, path: &str, modules: &BTreeMap<Module, Source>) -> Option<Module> {
    let mut names: Vec<&str> = path.split("::").collect();
    let mut from = module.clone();
    match names[0] {
        "crate" => {
            from.clear();
            names.remove(0);
        }
        "self" => drop(names.remove(0)),
        "super" => {
            while names.first() == Some(&"super") {
                from.pop();
                names.remove(0);
            }
        }
        first => {
            let child = [from.as_slice(), &[first.to_owned()]].concat();
            modules.get(&child)?;
        }
    }
    from.extend(names.into_iter().map(str::to_owned));
    Some(from)
}

/// The file in which that is written to which a path leads, past whoever passes it on.
fn home(path: Module, modules: &BTreeMap<Module, Source>) -> Module {
    let longest = (0..=path.len())
        .rev()
        .find(|n| modules.contains_key(&path[..*n]));
    let (module, rest) = path.split_at(longest.unwrap_or_default());
    let module = module.to_vec();
    let passed = rest
        .first()
        .and_then(|name| modules[&module].passes_on.get(name));
    match passed.and_then(|passed| absolute(&module, passed, modules)) {
        Some(mut passed) => {
            passed.extend_from_slice(&rest[1..]);
            home(passed, modules)
        }
        None => module,
    }
}

/// Which files each file uses.
fn arrows() -> BTreeMap<Module, BTreeSet<Module>> {
    let modules = sources();
    let arrows = modules.iter().map(|(module, source)| {
        let used = source
            .uses
            .iter()
            .filter_map(|path| absolute(module, path, &modules));
        let homes = used.map(|path| home(path, &modules));
        let others = homes.filter(|other| other != module && !other.is_empty());
        (module.clone(), others.collect())
    });
    arrows.collect()
}

/// What a file uses, directly or by way of others.
fn within_reach<'a>(
    module: &'a Module,
    arrows: &'a BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeSet<&'a Module> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![module]);
    while let Some(module) = open.pop() {
        open.extend(arrows[module].iter().filter(|other| reached.insert(*other)));
    }
    reached
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let arrows = arrows();
    let count: usize = arrows.values().map(BTreeSet::len).sum();
    assert!(count > 500, "only {count} arrows between files were found");
    let reached: BTreeMap<&Module, _> = arrows
        .keys()
        .map(|module| (module, within_reach(module, &arrows)))
        .collect();
    let shown = |module: &Module| module.join("/");
    let circles = arrows.iter().filter_map(|(module, used)| {
        let back = used.iter().filter(|other| reached[other].contains(module));
        let back: Vec<String> = back.map(shown).collect();
        (!back.is_empty()).then(|| format!("{} uses {}", shown(module), back.join(", ")))
    });
    let circles: Vec<String> = circles.collect();
    assert!(circles.is_empty(), "circles among:\n{}", circles.join("\n"));
}
