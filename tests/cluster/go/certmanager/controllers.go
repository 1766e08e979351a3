package main

import (
	"context"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/util/feature"

	_ "github.com/cert-manager/cert-manager/pkg/controller/acmechallenges"
	_ "github.com/cert-manager/cert-manager/pkg/controller/acmeorders"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificate-shim/gateways"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificate-shim/ingresses"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificate-shim/listenerset"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/acme"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificatesigningrequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificatesigningrequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/acme"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

// controllers runs cert-manager's controllers until it is told to stop. It prints the line "ready" once every cache has
// what the API server held. Flags have the names and the defaults of cert-manager's own command.
func controllers(arguments []string) error {
	options := controller.ContextOptions{
		KubernetesAPIQPS:   20,
		KubernetesAPIBurst: 50,
		ACMEOptions: controller.ACMEOptions{
			HTTP01SolverImage:                 "unused: there are no nodes to run a solver on",
			HTTP01SolverResourceRequestCPU:    resource.MustParse("10m"),
			HTTP01SolverResourceRequestMemory: resource.MustParse("64Mi"),
			HTTP01SolverResourceLimitsCPU:     resource.MustParse("100m"),
			HTTP01SolverResourceLimitsMemory:  resource.MustParse("64Mi"),
			ACMEHTTP01SolverRunAsNonRoot:      true,
		},
		IngressShimOptions: controller.IngressShimOptions{
			DefaultIssuerKind:                 "Issuer",
			DefaultIssuerGroup:                "cert-manager.io",
			DefaultAutoCertificateAnnotations: []string{"kubernetes.io/tls-acme"},
			GatewayAPIExtraProtocols:          sets.New[string](),
		},
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes: []string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"},
		},
		SchedulerOptions: controller.SchedulerOptions{MaxConcurrentChallenges: 60},
	}
	flags := pflag.NewFlagSet("controllers", pflag.ContinueOnError)
	flags.StringVar(&options.Kubeconfig, "kubeconfig", "", "how to reach the API server, and as whom")
	flags.StringVar(&options.ClusterResourceNamespace, "cluster-resource-namespace", "cert-manager",
		"where the Secrets of a ClusterIssuer are")
	flags.DurationVar(&options.CertificateRequestMinimumBackoffDuration, "certificate-request-minimum-backoff-duration",
		time.Hour, "how long to wait after the first failed CertificateRequest")
	flags.DurationVar(&options.CertificateRequestMaximumBackoffDuration, "certificate-request-maximum-backoff-duration",
		32*time.Hour, "how long to wait at most after a failed CertificateRequest")
	flags.StringSliceVar(&options.DNS01Nameservers, "dns01-recursive-nameservers", nil, "asked whether a challenge's record is there")
	recursiveOnly := flags.Bool("dns01-recursive-nameservers-only", false, "ask no authoritative name server")
	flags.DurationVar(&options.DNS01CheckRetryPeriod, "dns01-check-retry-period", 10*time.Second, "how often to look for the record")
	flags.BoolVar(&options.EnableOwnerRef, "enable-certificate-owner-ref", false, "a Secret goes with its Certificate")
	flags.BoolVar(&options.EnableGatewayAPI, "enable-gateway-api", false, "run gateway-shim; its CRDs must be there")
	flags.BoolVar(&options.EnableGatewayAPIListenerSet, "enable-gateway-api-listenerset", false, "run gateway-shim for ListenerSets too")
	workers := flags.Int("concurrent-workers", 5, "workers of each controller")
	gates := flags.String("feature-gates", "", "NAME=true or NAME=false, separated by commas")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	options.DNS01CheckAuthoritative = !*recursiveOnly
	if *gates != "" {
		if err := feature.DefaultMutableFeatureGate.Set(*gates); err != nil {
			return err
		}
	}

	logs.InitLogs()
	defer logs.FlushLogs()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	factory, err := controller.NewContextFactory(ctx, options)
	if err != nil {
		return err
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	gatewayAPI := options.EnableGatewayAPI
	runs := make(map[string]controller.Interface)
	for name, construct := range controller.Known() {
		if !enabled(name, options) {
			continue
		}
		built, err := construct(factory)
		if err != nil {
			return fmt.Errorf("controller %s: %w", name, err)
		}
		runs[name] = built
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	if gatewayAPI {
		shared.GWShared.Start(ctx.Done())
	}

	failures := make(chan error, len(runs))
	var running sync.WaitGroup
	for name, run := range runs {
		running.Go(func() {
			if err := run.Run(*workers, ctx); err != nil {
				failures <- fmt.Errorf("controller %s: %w", name, err)
				stop()
			}
		})
	}
	shared.SharedInformerFactory.WaitForCacheSync(ctx.Done())
	shared.KubeSharedInformerFactory.WaitForCacheSync(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.WaitForCacheSync(ctx.Done())
	if gatewayAPI {
		shared.GWShared.WaitForCacheSync(ctx.Done())
	}
	if ctx.Err() == nil {
		names := slices.Sorted(maps.Keys(runs))
		fmt.Println("controllers:", strings.Join(names, " "))
		fmt.Println("ready")
	}
	running.Wait()
	close(failures)
	return <-failures
}

// enabled tells which controllers cert-manager's command would run with these options.
func enabled(name string, options controller.ContextOptions) bool {
	switch {
	case name == "gateway-shim":
		return options.EnableGatewayAPI
	case strings.HasPrefix(name, "listenerset"):
		return options.EnableGatewayAPI && options.EnableGatewayAPIListenerSet
	case strings.HasPrefix(name, "certificatesigningrequests-"):
		return feature.DefaultFeatureGate.Enabled("ExperimentalCertificateSigningRequestControllers")
	default:
		return true
	}
}
