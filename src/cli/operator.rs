//! What the operator commands share: how they find the process, wait for it, and end.
//!
//! Exit codes: 0 it is so, 1 it is not (refused, aborted, not ready), 2 the command line is wrong, 3 the process could
//! not be asked or its answer was cut.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::show::tell;
use crate::config::{AdminAddress, AdminLogin, admin_address, default_admin};
use crate::io::admin::access::Access;
use crate::io::admin::client::{AdminClient, AskError};

/// For the help of every operator command.
pub(crate) const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 refused or aborted, 2 wrong usage, 3 the process could not be asked";

/// Where the process is.
#[derive(Debug, clap::Args)]
pub(crate) struct Reach {
    /// Where the process serves its admin API: unix:PATH, a loopback address or https://HOST:PORT (default: as
    /// `changeover run`)
    #[arg(long, value_name = "ADDRESS", value_parser = admin_address)]
    admin: Option<AdminAddress>,
    /// For https: who signed its certificate
    #[arg(long, value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// For https: the certificate to show, where it asks for one
    #[arg(long, value_name = "FILE", requires = "admin_key")]
    admin_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "admin_cert")]
    admin_key: Option<PathBuf>,
    /// For https: file with the token, where it asks for one
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

impl Reach {
    /// The client for it.
    ///
    /// # Errors
    /// A file that was named cannot be used.
    pub(crate) fn client(&self) -> Result<AdminClient, AskError> {
        let at = self.admin.clone().unwrap_or_else(|| default_admin().into());
        let client = self.admin_cert.clone().zip(self.admin_key.clone());
        let login = AdminLogin { ca: self.admin_ca.clone(), client, token_file: self.admin_token_file.clone() };
        let access = Access::load(&login).map_err(|error| AskError::Failed { at: at.to_string(), error })?;
        Ok(access.client(&at))
    }
}

/// How a command ended.
pub(crate) type Ended = Result<Verdict, AskError>;

/// The answer to what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done, or all is well.
    Yes,
    /// Not done, or not well.
    No,
}

impl From<bool> for Verdict {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Runs one command to its end on a runtime of its own.
pub(crate) fn run(command: impl Future<Output = Ended>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("error: cannot start: {error}\n"));
            return ExitCode::from(3);
        }
    };
    match runtime.block_on(command) {
        Ok(Verdict::Yes) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        Err(error) => {
            tell(&format!("error: {error}\n"));
            ExitCode::from(if matches!(error, AskError::Refused(_) | AskError::NotNow(_)) { 1 } else { 3 })
        }
    }
}

/// A value as indented JSON with a newline.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => text + "\n",
        Err(error) => format!("{{\"error\": \"{error}\"}}\n"),
    }
}
