//! A real nginx: as a host serves what certbot keeps, and in the place of an ingress controller, which writes an Ingress
//! and its Secrets into nginx's configuration and has it read that again.

use std::{
    convert::Infallible,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use chancery_harness::server::free_port;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1::Builder,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{core::v1::Secret, networking::v1::Ingress};
use kube::Api;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    time::interval,
};

use crate::{Door, Plane, Process, Result, company, programs, until, visitor::ENDLESS};

/// What nginx serves for one host.
#[derive(Debug, Clone)]
pub struct Site {
    /// The host's name.
    pub name: String,
    /// The chain, a PEM file.
    pub certificate: PathBuf,
    /// The private key, a PEM file.
    pub key: PathBuf,
}

/// nginx while it runs.
pub struct Nginx {
    process: Process,
    port: u16,
    // Goes last.
    _folder: TempDir,
}

impl Nginx {
    /// Starts it for these sites, in front of a backend; returns once it listens. `None` where this machine has none;
    /// that has been said then.
    pub async fn start(plane: &Plane, sites: &[Site], backend: &Backend) -> Result<Option<Self>> {
        let Some(program) = programs::nginx() else { return Ok(None) };
        let folder = plane.scratch("nginx")?;
        let port = free_port().await?;
        fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), port, sites, backend.address))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        command.args(["-e", "stderr", "-g", "daemon off;"]);
        let mut process = plane.run(&format!("nginx-{port}"), command)?;
        process.until(async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()).await?;
        Ok(Some(Self { process, port, _folder: folder }))
    }

    /// Where it serves a host.
    #[must_use]
    pub fn door(&self, name: &str) -> Door {
        Door { name: name.to_owned(), address: (Ipv4Addr::LOCALHOST, self.port).into() }
    }

    /// Has it read its files again (SIGHUP): new workers take new connections, the old ones finish what is under way.
    pub fn reload(&self) -> Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// The process that takes signals.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// nginx's own language; there is no library that writes it.
fn configuration(folder: &Path, port: u16, sites: &[Site], backend: SocketAddr) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("  {what}_temp_path {}/{what};\n", folder.display()))
        .concat();
    let servers: String = sites
        .iter()
        .map(|Site { name, certificate, key }| {
            format!(
                "  server {{\n    listen 127.0.0.1:{port} ssl;\n    server_name {name};\n    \
                 ssl_certificate {};\n    ssl_certificate_key {};\n    location / {{\n      \
                 proxy_pass http://{backend};\n      proxy_http_version 1.1;\n      proxy_buffering off;\n    }}\n  }}\n",
                certificate.display(),
                key.display(),
            )
        })
        .collect();
    format!(
        "worker_processes 2;\npid {}/nginx.pid;\nevents {{}}\nhttp {{\n  access_log off;\n{temporary}{servers}}}\n",
        folder.display()
    )
}

/// nginx in the place of an ingress controller, for one Ingress.
pub struct IngressController {
    nginx: Nginx,
    secrets: Api<Secret>,
    served: Vec<Served>,
    // Goes last.
    _folder: TempDir,
}

/// A Secret that is served, and what of it.
struct Served {
    secret: String,
    site: Site,
    chain: Vec<u8>,
}

impl IngressController {
    /// Serves the hosts under `tls` of an Ingress with the Secrets that it names, once those are there.
    pub async fn serve(plane: &Plane, namespace: &str, name: &str, backend: &Backend) -> Result<Option<Self>> {
        let client = plane.client().await?;
        let ingress = Api::<Ingress>::namespaced(client.clone(), namespace).get(name).await?;
        let secrets = Api::<Secret>::namespaced(client, namespace);
        let folder = plane.scratch("ingress")?;
        let mut served = Vec::new();
        for tls in ingress.spec.and_then(|spec| spec.tls).unwrap_or_default() {
            let secret = tls.secret_name.ok_or("an Ingress with tls and no secretName")?;
            for host in tls.hosts.unwrap_or_default() {
                let (certificate, key) =
                    (folder.path().join(format!("{host}.crt")), folder.path().join(format!("{host}.key")));
                let site = Site { name: host, certificate, key };
                served.push(Served { secret: secret.clone(), site, chain: Vec::new() });
            }
        }
        for served in &mut served {
            served.write(&secrets).await?;
        }
        let sites: Vec<Site> = served.iter().map(|served| served.site.clone()).collect();
        let Some(nginx) = Nginx::start(plane, &sites, backend).await? else { return Ok(None) };
        Ok(Some(Self { nginx, secrets, served, _folder: folder }))
    }

    /// Waits until each Secret holds another certificate than the one that is served, writes it, and reloads.
    pub async fn follow(&mut self) -> Result<()> {
        for served in &mut self.served {
            served.write(&self.secrets).await?;
        }
        self.nginx.reload()
    }

    /// Where it serves a host.
    #[must_use]
    pub fn door(&self, name: &str) -> Door {
        self.nginx.door(name)
    }
}

impl Served {
    async fn write(&mut self, secrets: &Api<Secret>) -> Result<()> {
        let last = self.chain.clone();
        let another = move |secret: Option<&Secret>| {
            secret
                .and_then(|secret| company::chain(secret).ok())
                .is_some_and(|chain| !chain.is_empty() && *chain != *last)
        };
        let secret = until(secrets, &self.secret, another).await?;
        self.chain = company::chain(&secret)?.to_vec();
        fs::write(&self.site.certificate, &self.chain)?;
        fs::write(&self.site.key, company::key(&secret)?)?;
        Ok(())
    }
}

/// What stands behind a gateway: it answers at once, or without end at [`ENDLESS`]. It ends with the test's runtime.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    address: SocketAddr,
}

impl Backend {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        });
        Ok(Self { address })
    }

    /// Where it listens, without TLS.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let line = || Bytes::from_static(b"served behind the company's own root\n");
    if request.uri().path() != ENDLESS {
        return Ok(Response::new(Full::new(line()).boxed()));
    }
    let parts = futures::stream::unfold(interval(Duration::from_millis(5)), move |mut pace| async move {
        pace.tick().await;
        Some((Ok(Frame::data(line())), pace))
    });
    Ok(Response::new(StreamBody::new(parts).boxed()))
}
