//! Istio: its own Gateway and the Gateway API's, both served by Envoy, which istiod gives the Secret; and all three doors.

mod authority;

use chancery_cluster_tests::{
    Company, Result, certbot,
    istio::{IngressGateway, Istio},
    nginx::{Backend, IngressController, Nginx},
    visitor::Way,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::{begun, certificate_in, visitor, went_on};

/// Envoy takes a renewed Secret without touching a connection.
const WAYS: [Way; 3] = [Way::Repeated, Way::Kept, Way::Kept];

/// The ingress gateway in `istio-ingress`: a Gateway applies to all proxies with its labels, so there is one.
static GATEWAY: Mutex<Option<IngressGateway>> = Mutex::const_new(None);

/// Whoever holds it has the example's gateway alone.
async fn shop(company: &'static Company) -> Result<Option<MutexGuard<'static, Option<IngressGateway>>>> {
    let Some(istio) = Istio::shared(company).await? else { return Ok(None) };
    let mut gateway = GATEWAY.lock().await;
    if gateway.is_none() {
        company.apply_example("istio-gateway.yaml", |_| {}).await?;
        company.plane().apply_documents("istio-ingress", vec![shop_answers()]).await?;
        let mut started = istio.ingress_gateway("istio-ingress", "ingress", &json!({ "istio": "ingress" })).await?;
        started.until_it_listens().await?;
        *gateway = Some(started);
    }
    Ok(Some(gateway))
}

/// Has the gateway answer by itself: no backend is needed.
fn shop_answers() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": "shop" },
        "spec": {
            "hosts": ["shop.apps.example.com"], "gateways": ["shop"],
            "http": [{ "directResponse": { "status": 200, "body": { "string": "served behind the company's own root\n" } } }],
        },
    })
}

/// A route from the Gateway API's gateway to a backend on this machine, which no EndpointSlice could name.
fn news_route(backend: Backend) -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": { "name": "news" },
            "spec": {
                "hosts": ["news.internal"], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": backend.address().port() }],
                "endpoints": [{ "address": backend.address().ip().to_string() }],
            },
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "news" },
            "spec": {
                "parentRefs": [{ "name": "news" }], "hostnames": ["news.apps.example.com"],
                "rules": [{ "backendRefs": [{
                    "group": "networking.istio.io", "kind": "Hostname", "name": "news.internal", "port": 80,
                }] }],
            },
        }),
    ]
}

#[tokio::test]
async fn envoy_serves_an_istio_gateways_secret_and_a_renewal_drops_no_connection() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(gateway) = shop(company).await? else { return Ok(()) };
    let door = gateway.as_ref().ok_or("no gateway")?.door("shop.apps.example.com");
    let old = certificate_in(&company.issued("istio-ingress", "shop").await?)?;
    let visitor = visitor(company)?;
    visitor.until_served(&door, &old).await?;

    let visits = begun(&visitor, &door, &WAYS).await?;
    let renewed = certificate_in(&company.renew("istio-ingress", "shop").await?)?;
    visitor.until_served(&door, &renewed).await?;
    went_on(visits, &WAYS, &old, &renewed).await
}

#[tokio::test]
async fn envoy_serves_a_gateway_of_the_gateway_api_by_its_annotations_and_a_renewal_drops_no_connection() -> Result<()>
{
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(istio) = Istio::shared(company).await? else { return Ok(()) };
    // Without an address Istio would deploy pods for it; with one it takes the gateway whose Service that is.
    let addressed = |gateway: &mut Value| {
        let address = json!({ "spec": { "addresses": [{ "type": "Hostname", "value": "gateway" }] } });
        json_patch::merge(gateway, &address);
    };
    company.apply_example("gateway-api.yaml", addressed).await?;
    let backend = Backend::start().await?;
    company.plane().apply_documents("news", news_route(backend)).await?;
    let old = certificate_in(&company.issued("news", "news-tls").await?)?;
    let mut gateway = istio.ingress_gateway("news", "gateway", &json!({ "serves": "news" })).await?;
    gateway.until_it_listens().await?;
    let (visitor, door) = (visitor(company)?, gateway.door("news.apps.example.com"));
    visitor.until_served(&door, &old).await?;

    let ways = [Way::Repeated, Way::Kept, Way::Endless];
    let visits = begun(&visitor, &door, &ways).await?;
    let renewed = certificate_in(&company.renew("news", "news-tls").await?)?;
    visitor.until_served(&door, &renewed).await?;
    went_on(visits, &ways, &old, &renewed).await
}

#[tokio::test]
async fn one_client_that_trusts_the_root_alone_connects_to_all_three_doors() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(gateway) = shop(company).await? else { return Ok(()) };
    let istio = gateway.as_ref().ok_or("no gateway")?.door("shop.apps.example.com");

    company.apply_example("nginx-ingress.yaml", |_| {}).await?;
    company.issued("wiki", "wiki-tls").await?;
    let backend = Backend::start().await?;
    let Some(ingress) = IngressController::serve(company.plane(), "wiki", "wiki", &backend).await? else {
        return Ok(());
    };
    let Some(host) = certbot::Host::certified(company, "intranet.hosts.example.com").await? else { return Ok(()) };
    let Some(nginx) = Nginx::start(company.plane(), &[host.site()], &backend).await? else { return Ok(()) };

    let visitor = visitor(company)?;
    for door in [istio, ingress.door("wiki.apps.example.com"), nginx.door("intranet.hosts.example.com")] {
        let by_rustls = visitor.certificate(&door).await.map_err(|error| format!("{door}: {error}"))?;
        assert!(by_rustls == visitor.certificate_by_openssl(&door).await?, "{door} serves two certificates");
        let mut visits = visitor.visit(&door, &[Way::Repeated]);
        visits.more(1).await?;
        visits.end().await?;
    }
    Ok(())
}
