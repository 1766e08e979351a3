{{- define "chancery-issuer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "chancery-issuer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "chancery-issuer.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "chancery-issuer.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "chancery-issuer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chancery-issuer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chancery-issuer.labels" -}}
{{ include "chancery-issuer.selectorLabels" . }}
app.kubernetes.io/component: issuer
app.kubernetes.io/part-of: chancery
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object: give (dict "root" $ "name" NAME "annotations" MAP "labels" MAP). */}}
{{- define "chancery-issuer.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ default .root.Release.Namespace .namespace }}
{{- end }}
labels:
  {{- include "chancery-issuer.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "chancery-issuer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "chancery-issuer.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "chancery-issuer.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "set image.repository: where the image of chancery-issuer is that you built by deploy/container" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Names of what is not in a namespace: two releases must not share them. */}}
{{- define "chancery-issuer.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "chancery-issuer.fullname" .) -}}
{{- end -}}

{{- define "chancery-issuer.clusterResourceNamespace" -}}
{{- default .Release.Namespace .Values.clusterResourceNamespace -}}
{{- end -}}

{{- define "chancery-issuer.subject" -}}
- kind: ServiceAccount
  name: {{ include "chancery-issuer.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* What the schema cannot see. */}}
{{- define "chancery-issuer.check" -}}
{{- if and .Values.secretAccess.clusterWide .Values.secretAccess.namespaces -}}
{{- fail "secretAccess.clusterWide has every namespace; leave out secretAccess.namespaces" -}}
{{- end -}}
{{- $ofTheCluster := false -}}
{{- range .Values.signers.names -}}
{{- if hasPrefix "chanceryclusterissuers.chancery.dev/" . -}}{{- $ofTheCluster = true -}}{{- end -}}
{{- end -}}
{{- if and (or .Values.signers.podCertificateRequests .Values.trust.clusterTrustBundles) (not $ofTheCluster) -}}
{{- fail "signers.podCertificateRequests and trust.clusterTrustBundles need a name of chanceryclusterissuers.chancery.dev in signers.names" -}}
{{- end -}}
{{- if and .Values.approval.enabled (not .Values.approval.subjects) -}}
{{- fail "approval.enabled needs approval.subjects: the service account that approves; with approval.enabled=false another one must" -}}
{{- end -}}
{{- end -}}

{{/* The command line of the controller. */}}
{{- define "chancery-issuer.args" -}}
- run
- --cluster-resource-namespace={{ include "chancery-issuer.clusterResourceNamespace" . }}
{{- range .Values.allowedServers }}
- --allowed-server={{ . }}
{{- end }}
- --token-audience={{ .Values.serviceAccountTokens.audience }}
{{- range $feature, $on := dict "certificate-signing-requests" .Values.signers.certificateSigningRequests "pod-certificate-requests" .Values.signers.podCertificateRequests "cluster-trust-bundles" .Values.trust.clusterTrustBundles "root-config-maps" .Values.trust.configMaps }}
{{- if $on }}
- --feature={{ $feature }}
{{- end }}
{{- end }}
{{- if .Values.trust.configMaps }}
- --root-config-map={{ .Values.trust.configMapName }}
{{- end }}
- --lease-name={{ include "chancery-issuer.fullname" . }}
- --listen={{ .Values.bindAddress }}:{{ .Values.metrics.port }}
- --log-level={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
{{- end -}}

{{/* What issuers name: Secrets, ConfigMaps, tokens of service accounts. */}}
{{- define "chancery-issuer.secretRules" -}}
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get, list, watch]
{{- with .Values.serviceAccountTokens.names }}
- apiGroups: [""]
  resources: [serviceaccounts/token]
  resourceNames: {{ toJson . }}
  verbs: [create]
{{- end }}
{{- end -}}
