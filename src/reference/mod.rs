//! What is made of the definitions of commands and keys: man pages, completions, the schema for editors.
//!
//! Part of the tests alone, so that the program carries none of it. The results are part of the repository, in
//! `man/`, `completions/` and `config/`; `tests.rs` compares them with the definitions, and writes them anew for
//! `make reference`.

mod completions;
mod config_page;
mod files;
mod page;
mod pages;
pub(crate) mod schema;
mod shells;
mod tests;

/// A file that is made: its path in the repository, and its content.
struct Made {
    path: String,
    content: String,
}

fn all() -> Vec<Made> {
    let mut all = pages::all();
    all.extend(completions::all());
    all.extend(schema::all());
    all
}
