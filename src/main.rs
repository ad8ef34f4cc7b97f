//! Dispatch: what the command line asks for, and the exit code.

use std::process::ExitCode;

use clap::Parser;
use quotad::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quotad::cli::run(Cli::parse())
}
