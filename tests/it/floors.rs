//! Holds the floors of `docs/ARCHITECTURE.md` by reading the `use` lines: nothing imports from above, and no files import
//! each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. What shares a floor may not import each other, but for the files at the top of `src/`, which are
/// one row a floor.
const FLOORS: [&[&str]; 20] = [
    &["main"],
    &["alerts", "demo", "simulate", "healthcheck"],
    &["service"],
    &["systemd", "app"],
    &["cli"],
    &["front"],
    &["ops"],
    &["control"],
    &["upstream"],
    &["dispatch"],
    &["downstream"],
    &["telemetry"],
    &["workers"],
    &["limiter"],
    &["config"],
    &["http"],
    &["lifecycle"],
    &["published"],
    &["outcome", "priority"],
    &["clock"],
];

/// What a module imports, by the names of modules as they stand behind `crate::`.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `src/limiter/mod.rs` is `limiter`, `src/limiter/gate.rs` is `limiter::gate`.
fn module_of(root: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(root).unwrap().with_extension("");
    let mut segments: Vec<_> = relative.iter().map(|s| s.to_str().unwrap().to_owned()).collect();
    segments.pop_if(|last| last == "mod");
    segments.join("::")
}

/// The code without comments and without what only tests see.
fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            let opens_block = lines.peek().is_some_and(|next| next.ends_with('{'));
            if opens_block {
                lines.by_ref().find(|line| *line == "}");
            } else {
                lines.next();
            }
            continue;
        }
        kept.push(line.split("//").next().unwrap_or_default());
    }
    kept.join("\n")
}

/// `{a::b, c::{d, e as f}}` behind `prefix` as one path each.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let (mut depth, mut begin) = (0, 0);
    let mut parts = Vec::new();
    for (i, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[begin..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('{') {
            Some((head, rest)) => {
                expand(&format!("{prefix}{}", head.trim()), rest.trim_end_matches('}'), found);
            }
            None => found.push(format!("{prefix}{}", part.split(" as ").next().unwrap_or(part).trim())),
        }
    }
}

/// All paths behind `use`, each with whether it is a re-export.
fn use_paths(code: &str) -> Vec<(bool, String)> {
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let Some(at) = statement.rfind("use ") else { continue };
        let before = statement[..at].trim_end();
        let line = before.rsplit('\n').next().unwrap_or_default().trim();
        if !(line.is_empty() || line.starts_with("pub") || line.ends_with(']') || line.ends_with('}')) {
            continue;
        }
        let mut expanded = Vec::new();
        expand("", &statement[at + 4..], &mut expanded);
        paths.extend(expanded.into_iter().map(|path| (line.starts_with("pub"), path)));
    }
    paths
}

/// A path as it is seen from the crate's root; `None` for those of other crates.
fn absolute(path: &str, module: &str, modules: &BTreeSet<String>) -> Option<String> {
    let segments: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = module.split("::").collect();
    let supers = segments.iter().take_while(|segment| **segment == "super").count();
    match segments[0] {
        "crate" => Some(segments[1..].join("::")),
        "self" => Some(format!("{module}::{}", segments[1..].join("::"))),
        "super" => {
            base.truncate(base.len() - supers);
            Some([base.as_slice(), &segments[supers..]].concat().join("::"))
        }
        first => modules.contains(&format!("{module}::{first}")).then(|| format!("{module}::{path}")),
    }
}

/// The file in which what a path names is defined: the longest module, seen through the re-exports of folders.
fn file_of(path: &str, modules: &BTreeSet<String>, exported: &BTreeMap<String, String>) -> Option<String> {
    let path = exported.get(path).map_or(path, String::as_str);
    let mut module = path;
    while !modules.contains(module) {
        let (parent, _) = module.rsplit_once("::")?;
        if let Some(target) = exported.get(module) {
            return file_of(target, modules, exported);
        }
        module = parent;
    }
    Some(module.to_owned())
}

fn imports() -> Imports {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let sources: BTreeMap<String, String> = files
        .iter()
        .map(|file| (module_of(&root, file), without_tests(&fs::read_to_string(file).unwrap())))
        .filter(|(module, _)| {
            module != "allocator::build" && !module.ends_with("tests") && !module.ends_with("samples")
        })
        .collect();
    let modules: BTreeSet<String> = sources.keys().cloned().collect();
    let mut exported = BTreeMap::new();
    let mut used: Vec<(String, String)> = Vec::new();
    for (module, code) in &sources {
        for (is_export, path) in use_paths(code) {
            let Some(path) = absolute(&path, module, &modules) else { continue };
            if is_export {
                let name = path.rsplit("::").next().unwrap_or_default();
                exported.insert(format!("{module}::{name}"), path);
            } else {
                used.push((module.clone(), path));
            }
        }
        // Paths that are written out where they are used.
        for written in code.split("crate::").skip(1) {
            let path = written.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next();
            used.push((module.clone(), path.unwrap_or_default().trim_end_matches(':').to_owned()));
        }
    }
    let mut imports = Imports::new();
    for (module, path) in used {
        if let Some(target) = file_of(&path, &modules, &exported).filter(|target| *target != module) {
            imports.entry(module).or_default().insert(target);
        }
    }
    imports
}

fn folder(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|names| names.contains(&folder(module)))
        .unwrap_or_else(|| panic!("{module} is on no floor: give it one here and in docs/ARCHITECTURE.md"))
}

#[derive(Default)]
struct Walk<'a> {
    path: Vec<&'a str>,
    seen: BTreeSet<&'a str>,
    circles: Vec<String>,
}

#[test]
fn nothing_imports_from_a_floor_above_its_own() {
    let mut upwards = Vec::new();
    for (module, targets) in imports().iter().filter(|(module, _)| *module != "lib") {
        for target in targets.iter().filter(|target| folder(target) != folder(module)) {
            if floor(target) <= floor(module) {
                upwards.push(format!("{module} imports {target}"));
            }
        }
    }
    assert!(upwards.is_empty(), "imports from above:\n  {}", upwards.join("\n  "));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    fn visit<'a>(module: &'a str, imports: &'a Imports, walk: &mut Walk<'a>) {
        if let Some(at) = walk.path.iter().position(|on_path| *on_path == module) {
            walk.circles.push(format!("{} -> {module}", walk.path[at..].join(" -> ")));
            return;
        }
        if !walk.seen.insert(module) {
            return;
        }
        walk.path.push(module);
        for target in imports.get(module).into_iter().flatten() {
            visit(target, imports, walk);
        }
        walk.path.pop();
    }
    let imports = imports();
    let mut walk = Walk::default();
    for module in imports.keys() {
        visit(module, &imports, &mut walk);
    }
    assert!(walk.circles.is_empty(), "circles:\n  {}", walk.circles.join("\n  "));
}

#[test]
fn the_graph_is_read_from_the_code() {
    let imports = imports();
    let of = |module: &str| imports.get(module).cloned().unwrap_or_default();
    assert!(of("front::intake").contains("front::route"), "a plain import: {:?}", of("front::intake"));
    assert!(of("app").contains("config::tree"), "one that is re-exported by its folder: {:?}", of("app"));
    assert!(imports.len() > 80, "{} files import something", imports.len());
}
