//! nginx: an Ingress through ingress-shim, and a host of certbot's.

use chancery_cluster_tests::{
    Company, Result, certbot,
    nginx::{Backend, IngressController, Nginx},
    visitor::{Way, first_of},
};

use super::{begun, certificate_in, visitor, went_on};

/// nginx closes idle connections when it reads its files again; an answer under way goes on to its end.
const WAYS: [Way; 3] = [Way::Repeated, Way::Repeated, Way::Endless];

#[tokio::test]
async fn nginx_serves_an_ingress_by_its_annotations_and_a_renewal_drops_no_connection() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    company.apply_example("nginx-ingress.yaml", |_| {}).await?;
    let old = certificate_in(&company.issued("wiki", "wiki-tls").await?)?;
    let backend = Backend::start().await?;
    let Some(mut controller) = IngressController::serve(company.plane(), "wiki", "wiki", &backend).await? else {
        return Ok(());
    };
    let (visitor, door) = (visitor(company)?, controller.door("wiki.apps.example.com"));
    visitor.until_served(&door, &old).await?;

    let visits = begun(&visitor, &door, &WAYS).await?;
    let renewed = certificate_in(&company.renew("wiki", "wiki-tls").await?)?;
    controller.follow().await?;
    visitor.until_served(&door, &renewed).await?;
    went_on(visits, &WAYS, &old, &renewed).await
}

#[tokio::test]
async fn nginx_serves_what_certbot_keeps_and_a_renewal_drops_no_connection() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(host) = certbot::Host::certified(company, "www.hosts.example.com").await? else { return Ok(()) };
    let old = first_of(&host.chain()?)?;
    let backend = Backend::start().await?;
    let Some(nginx) = Nginx::start(company.plane(), &[host.site()], &backend).await? else { return Ok(()) };
    let (visitor, door) = (visitor(company)?, nginx.door("www.hosts.example.com"));
    visitor.until_served(&door, &old).await?;

    let visits = begun(&visitor, &door, &WAYS).await?;
    host.renew(&format!("kill -HUP {}", nginx.process().id())).await?;
    let renewed = first_of(&host.chain()?)?;
    visitor.until_served(&door, &renewed).await?;
    went_on(visits, &WAYS, &old, &renewed).await
}
