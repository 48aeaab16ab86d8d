//! `changeover witness`: the third voice of any number of pairs. Needs no Redis and no file of settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::EXIT_USAGE;
use super::run::start_log;
use crate::config::{self, CertificateDates, Log, ServerTls};
use crate::control::witness::Settings;

/// Arguments of `witness`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where proxies ask; beyond loopback only with --cert, --key, and --client-ca or --token-file
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Certificate chain shown to those who ask (PEM, leaf first)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Those who ask must present a certificate that this CA signed (mTLS)
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
    /// Take a certificate that is outside its dates at a reload too
    #[arg(long, requires = "cert")]
    accept_expired: bool,
    /// File with a token that every question must carry; one newline at its end is dropped
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where it is kept who holds which pair; it must survive a restart
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// What is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// Runs until the process is told to end.
pub(crate) fn run(args: Args) -> ExitCode {
    let token = match args.token_file.as_deref().map(config::secret_file).transpose() {
        Ok(token) => token,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    start_log(&Log { filter: args.log.clone(), json: false });
    let tls = args.cert.zip(args.key).map(|(cert, key)| ServerTls { cert, key, client_ca: args.client_ca });
    let certificate_dates = if args.accept_expired { CertificateDates::Accept } else { CertificateDates::Refuse };
    let (listen, state_dir) = (args.listen, args.state_dir);
    crate::control::witness::run(Settings { listen, tls, certificate_dates, token, state_dir })
}
