{{- /* Every object is called hub or hub-...: the alerts ask for job="hub". One release in a namespace. */}}
{{- define "hub.selector" -}}
app.kubernetes.io/name: hub
{{- end }}
{{- define "hub.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}
{{- define "hub.labels" -}}
app.kubernetes.io/name: hub
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
