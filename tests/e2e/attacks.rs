//! What an attacker tries, and what fails at the worst moment: each test is an attack that worked once, or a member of
//! its class. `docs/threat-model.md` names them by who attacks.

mod bounds;
mod children;
mod identity;
mod looks;
mod order;
mod output;
mod sources;
mod strangers;
