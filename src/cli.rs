//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::{self, healthcheck};
use crate::clock::Clock;
use crate::config::{self, DatabaseLocation, Settings};
use crate::domain::credential::Role;
use crate::domain::subject::UserId;
use crate::domain::tier::TierName;
use crate::identity::jwt::{self, Grant};
use crate::observability::chain::Chain;

/// Rate limits and quotas for an API, as a service.
#[derive(Debug, Parser)]
#[command(name = "quotad", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default)
    Serve,
    /// Print the settings in force, secrets masked
    Config,
    /// Bring the database to this version's schema, or copy one to another
    Migrate {
        /// The SQLite database to copy from, as `sqlite:///var/lib/quotad/quotad.db`; no instance may be running on it
        #[arg(long, requires = "to", value_parser = database)]
        from: Option<DatabaseLocation>,
        /// The empty PostgreSQL database to copy to, as `postgres://user:password@host/name`
        #[arg(long, requires = "from", value_parser = database)]
        to: Option<DatabaseLocation>,
    },
    /// Sign a token with JWT_SECRET
    Token {
        /// The user id
        #[arg(long, value_parser = |text: &str| UserId::parse(text))]
        sub: UserId,
        /// The tier that the token claims
        #[arg(long, value_parser = |text: &str| TierName::parse(text))]
        tier: Option<TierName>,
        /// user, service or admin
        #[arg(long, default_value = "user", value_parser = |text: &str| Role::parse(text).ok_or("user, service or admin"))]
        role: Role,
        /// How long the token holds, 1 or more
        #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
        ttl_seconds: u32,
    },
    /// Ask the service on this machine whether it is ready
    Healthcheck,
}

/// Runs what was asked for. Whatever stops it is told in one line on standard error.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = Settings::from_env().map_err(|error| error.to_string()).and_then(|settings| match cli.command {
        None | Some(Command::Serve) => {
            actix::System::new().block_on(app::serve(settings)).map_err(|error| Chain(&error).to_string())
        }
        Some(Command::Config) => {
            settings.describe().iter().for_each(|(name, value)| println!("{name}={value}"));
            Ok(())
        }
        Some(Command::Migrate { from: Some(from), to: Some(to) }) => {
            let copied = actix::System::new()
                .block_on(app::copy(from, to, &settings))
                .map_err(|error| Chain(&error).to_string())?;
            copied.iter().for_each(|table| println!("{:<16} {:>12} rows", table.name, table.rows));
            println!("all of it was copied, and is as it was");
            Ok(())
        }
        Some(Command::Migrate { .. }) => {
            actix::System::new().block_on(app::migrate(&settings)).map_err(|error| Chain(&error).to_string())?;
            println!("the database is up to date");
            Ok(())
        }
        Some(Command::Token { sub, tier, role, ttl_seconds }) => {
            let secret = settings.identity.jwt_secret.as_ref().ok_or("QUOTAD_JWT_SECRET is not set")?;
            let grant = Grant { user_id: &sub, tier: tier.as_ref(), role, lifetime_seconds: ttl_seconds };
            let token = jwt::sign(secret, &settings.identity, &grant, Clock::system().now());
            println!("{}", token.map_err(|error| Chain(&error).to_string())?);
            Ok(())
        }
        Some(Command::Healthcheck) => healthcheck::ask(settings.http.listen).map_err(|error| Chain(&error).to_string()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("quotad: {line}");
            ExitCode::FAILURE
        }
    }
}

fn database(text: &str) -> Result<DatabaseLocation, &'static str> {
    config::database_location(text).ok_or("neither sqlite://path nor postgres://...")
}
