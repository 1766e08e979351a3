{{- define "chancery.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "chancery.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "chancery.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "chancery.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "chancery.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chancery.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chancery.labels" -}}
{{ include "chancery.selectorLabels" . }}
app.kubernetes.io/component: server
app.kubernetes.io/part-of: chancery
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object: give (dict "root" $ "name" NAME "annotations" MAP "labels" MAP). */}}
{{- define "chancery.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "chancery.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "chancery.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "chancery.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "chancery.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "set image.repository: where the image of chancery is that you built by deploy/container" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The host of the URL, without brackets. */}}
{{- define "chancery.host" -}}
{{- $url := required "set url: the URL under which clients reach the server, such as https://ca.example.com" .Values.url -}}
{{- regexReplaceAll "^https://(\\[[^]]*\\]|[^:/]*)(:[0-9]+)?/?$" $url "${1}" | trimPrefix "[" | trimSuffix "]" -}}
{{- end -}}

{{/* What the schema cannot see. */}}
{{- define "chancery.check" -}}
{{- range $table := list "listen" "tls" "signer" "policy" "ledger" "log" -}}
{{- if regexMatch (printf "(?m)^[ \\t]*\\[[ \\t]*%s[ \\t.\\]]" $table) $.Values.config -}}
{{- fail (printf "config has a table [%s], which the chart writes itself: use the values instead" $table) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "(?m)^[ \\t]*\\[\\[[ \\t]*authority[ \\t]*\\]\\]" .Values.config -}}
{{- fail "config has [[authority]], which the chart writes itself: use the value authorities instead" -}}
{{- end -}}
{{- $first := regexFind "(?m)^[ \\t]*[^# \\t\\r\\n].*$" .Values.config -}}
{{- if and $first (not (hasPrefix "[" (trim $first))) -}}
{{- fail (printf "config begins with %q outside any table; its first line that is no comment must be a table such as [[directory]]" (trim $first)) -}}
{{- end -}}
{{- $tls := .Values.tls -}}
{{- if and $tls.secretName (or $tls.names $tls.authority $tls.profile) -}}
{{- fail "tls.secretName brings a certificate; leave out tls.names, tls.authority and tls.profile" -}}
{{- end -}}
{{- if and (gt (len .Values.authorities) 1) (not $tls.secretName) (not $tls.authority) -}}
{{- fail "there are several authorities: say in tls.authority which one issues the server's own certificate" -}}
{{- end -}}
{{- if and .Values.tlsRoute.enabled (not .Values.tlsRoute.parentRefs) -}}
{{- fail "tlsRoute.enabled needs tlsRoute.parentRefs: the Gateway whose listener passes TLS through" -}}
{{- end -}}
{{- end -}}

{{/* chancery.toml. JSON's texts and lists of texts are TOML's. */}}
{{- define "chancery.config" -}}
{{- $host := include "chancery.host" . -}}
# Written by the chart {{ .Chart.Name }} {{ .Chart.Version }}.
version = "v1"
data = "/var/lib/chancery/data"

[listen]
url = {{ .Values.url | trimSuffix "/" | toJson }}
https = {{ printf "%s:8443" .Values.bindAddress | toJson }}
plain = {{ printf "%s:%d" .Values.bindAddress (int .Values.metrics.port) | toJson }}

[tls]
{{- with .Values.tls }}
{{- if .secretName }}
certificate = "/run/chancery/tls/tls.crt"
key = "/run/chancery/tls/tls.key"
{{- end }}
{{- with .names }}
names = {{ toJson . }}
{{- end }}
{{- with .authority }}
authority = {{ toJson . }}
{{- end }}
{{- with .profile }}
profile = {{ toJson . }}
{{- end }}
{{- end }}
{{- range .Values.authorities }}

[[authority]]
id = {{ toJson .id }}
key = {{ printf "/run/chancery/keys/%s" .key | toJson }}
{{- $chains := list }}
{{- range .chains }}
{{- $chains = append $chains (printf "/run/chancery/chains/%s" .) }}
{{- end }}
chains = {{ toJson $chains }}
{{- if .development }}
development = true
{{- end }}
{{- end }}

[signer]
passphrase = { file = "/run/chancery/passphrase/passphrase" }
{{- if .Values.keys.eab }}
eab_key = {{ printf "/run/chancery/keys/%s" .Values.keys.eab | toJson }}
{{- else }}
eab_key = "/var/lib/chancery/data/eab.key"
{{- end }}

[policy]
file = "/etc/chancery/policy.yaml"

[ledger]
key = {{ printf "/run/chancery/keys/%s" .Values.keys.ledger | toJson }}
origin = {{ default (printf "%s/ledger" $host) .Values.ledger.origin | toJson }}

[log]
level = {{ toJson .Values.log.level }}
format = {{ toJson .Values.log.format }}

{{ .Values.config }}
{{- end -}}

{{/* The policy: the given one, or one that allows the server's own names and nothing else. */}}
{{- define "chancery.policy" -}}
{{- if .Values.policy -}}
{{ .Values.policy }}
{{- else -}}
{{- $names := list -}}
{{- $addresses := list -}}
{{- range default (list (include "chancery.host" .)) .Values.tls.names -}}
{{- if contains ":" . -}}
{{- $addresses = append $addresses (printf "%s/128" .) -}}
{{- else if regexMatch "^[0-9.]+$" . -}}
{{- $addresses = append $addresses (printf "%s/32" .) -}}
{{- else -}}
{{- $names = append $names . -}}
{{- end -}}
{{- end -}}
# Written by the chart: nobody but the server itself gets a certificate. Set the value `policy`.
version: v1
rules:
  - name: own-certificate
    allow:
      {{- with $names }}
      names: {{ toJson . }}
      {{- end }}
      {{- with $addresses }}
      addresses: {{ toJson . }}
      {{- end }}
    for: { door: own-tls }
{{- end -}}
{{- end -}}

{{/* The spec of the server's pod, or, with "maintenance" true, of the one that does something else with what the server has:
give (dict "root" $ "maintenance" BOOL). */}}
{{- define "chancery.podSpec" -}}
{{- $root := .root -}}
{{- $keys := list $root.Values.keys.ledger -}}
{{- with $root.Values.keys.eab -}}
{{- $keys = append $keys . -}}
{{- end -}}
{{- range $root.Values.authorities -}}
{{- $keys = append $keys .key -}}
{{- end -}}
serviceAccountName: {{ include "chancery.serviceAccountName" $root }}
automountServiceAccountToken: {{ $root.Values.tokenReview.enabled }}
enableServiceLinks: false
{{- if .maintenance }}
restartPolicy: Never
{{- end }}
terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
  {{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- with get $root.Values.podSecurityContext $key }}
  {{ $key }}: {{ int64 . }}
  {{- end }}
  {{- end }}
  # Only once, on the empty volume: later it would open the data folder to the group, and the server refuses that.
  fsGroupChangePolicy: OnRootMismatch
containers:
  - name: chancery
    image: {{ include "chancery.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    {{- if .maintenance }}
    args: {{ toJson $root.Values.maintenance.args }}
    {{- else }}
    args: [serve, --make-data-folder]
    {{- end }}
    env:
      # For the commands of `kubectl exec` too.
      - name: CHANCERY_CONFIG
        value: /etc/chancery/chancery.toml
      {{- with $root.Values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- if not .maintenance }}
    ports:
      - name: https
        containerPort: 8443
      - name: plain
        containerPort: {{ $root.Values.metrics.port }}
    startupProbe:
      httpGet: { path: /healthz, port: plain }
      periodSeconds: 2
      failureThreshold: {{ div (add (int $root.Values.startupSeconds) 1) 2 }}
    livenessProbe:
      httpGet: { path: /healthz, port: plain }
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: { path: /{{ $root.Values.readiness }}, port: plain }
      periodSeconds: 5
      timeoutSeconds: 5
    {{- end }}
    {{- with $root.Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      privileged: false
      capabilities:
        drop: [ALL]
    volumeMounts:
      - name: data
        mountPath: /var/lib/chancery
      - name: config
        mountPath: /etc/chancery
        readOnly: true
      - name: chains
        mountPath: /run/chancery/chains
        readOnly: true
      - name: passphrase
        mountPath: /run/chancery/passphrase
        readOnly: true
      {{- if $root.Values.tls.secretName }}
      - name: tls
        mountPath: /run/chancery/tls
        readOnly: true
      {{- end }}
      {{- /* One by one: a key file that is a symbolic link is refused, and whole Secrets are mounted as links. */}}
      {{- range uniq $keys }}
      - name: keys
        mountPath: /run/chancery/keys/{{ . }}
        subPath: {{ . }}
        readOnly: true
      {{- end }}
      {{- with $root.Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  {{- if .maintenance }}
  # The volume that the StatefulSet has made.
  - name: data
    persistentVolumeClaim:
      claimName: data-{{ include "chancery.fullname" $root }}-0
  {{- end }}
  - name: config
    configMap:
      name: {{ include "chancery.fullname" $root }}
  - name: chains
    configMap:
      name: {{ $root.Values.chains.configMapName }}
  - name: keys
    secret:
      secretName: {{ $root.Values.keys.secretName }}
      # 0400, which not every reader of YAML takes for octal.
      defaultMode: 256
  - name: passphrase
    secret:
      secretName: {{ $root.Values.passphrase.secretName }}
      # 0400, which not every reader of YAML takes for octal.
      defaultMode: 256
      items:
        - key: {{ $root.Values.passphrase.key }}
          path: passphrase
  {{- with $root.Values.tls.secretName }}
  - name: tls
    secret:
      secretName: {{ . }}
      # 0400, which not every reader of YAML takes for octal.
      defaultMode: 256
  {{- end }}
  {{- with $root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $affinity := $root.Values.affinity }}
{{- if .maintenance }}
{{- $affinity = include "chancery.maintenanceAffinity" $root | fromYaml }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "dnsPolicy" "dnsConfig" }}
{{- with ternary $affinity (get $root.Values $key) (eq $key "affinity") }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The labels of a pod of maintenance. Not those of the server's: no Service, policy or budget is meant for it. */}}
{{- define "chancery.maintenanceLabels" -}}
app.kubernetes.io/name: {{ printf "%s-maintenance" (include "chancery.name" . | trunc 51 | trimSuffix "-") }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: maintenance
{{- end -}}

{{/* As the server's, and not beside the server's pod: maintenance begins when that has ended. */}}
{{- define "chancery.maintenanceAffinity" -}}
{{- $server := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "chancery.selectorLabels" . | fromYaml)) -}}
{{- $affinity := deepCopy .Values.affinity -}}
{{- $apart := default (dict) $affinity.podAntiAffinity -}}
{{- $required := append (default (list) $apart.requiredDuringSchedulingIgnoredDuringExecution) $server -}}
{{- $_ := set $apart "requiredDuringSchedulingIgnoredDuringExecution" $required -}}
{{- $_ := set $affinity "podAntiAffinity" $apart -}}
{{- toYaml $affinity -}}
{{- end -}}

{{/* The template of a pod of maintenance. */}}
{{- define "chancery.maintenancePod" -}}
metadata:
  labels:
    {{- include "chancery.maintenanceLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: chancery
    {{- with merge (dict) .Values.podAnnotations .Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "chancery.podSpec" (dict "root" . "maintenance" true) | nindent 2 }}
{{- end -}}

{{/* The Job's name. A Job's pod cannot be changed, so that another pod has a Job of another name. */}}
{{- define "chancery.maintenanceName" -}}
{{- $pod := include "chancery.maintenancePod" . | sha256sum | trunc 8 -}}
{{- printf "%s-maintenance-%s" (include "chancery.fullname" . | trunc 42 | trimSuffix "-") $pod -}}
{{- end -}}
