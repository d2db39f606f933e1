package controller

import (
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveStatus serves the status page until ctx is done.
func (c *Controller) serveStatus(ctx context.Context) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.statusPage)
	mux.HandleFunc("GET /status", c.statusJSON)
	mux.HandleFunc("GET /healthz", c.health)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		gatherers := prometheus.Gatherers{c.report.registry}
		active := caddy.ActiveContext()
		if registry := active.GetMetricsRegistry(); registry != nil {
			gatherers = append(gatherers, registry)
		}
		promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(c.listener); err != nil && ctx.Err() == nil {
		c.log.Error("the status page ended", "error", err)
	}
}

// health is good once there is something to serve: sites from Docker or from
// disk. That Docker is away is no reason to be restarted.
func (c *Controller) health(w http.ResponseWriter, _ *http.Request) {
	s := c.report.status()
	if s.Updated.IsZero() && !c.report.hasRestored() && s.Docker != "connected" {
		http.Error(w, s.Docker, http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (c *Controller) statusJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(c.report.status()); err != nil {
		c.log.Debug("write the status", "error", err)
	}
}

func (c *Controller) statusPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if err := statusTemplate.Execute(w, c.report.status()); err != nil {
		c.log.Debug("write the status page", "error", err)
	}
}

var statusTemplate = template.Must(template.New("status").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Ingress</title>
<style>
body { font-family: sans-serif; max-width: 80em; margin: 1em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3em .6em; border-bottom: 1px solid #ddd; vertical-align: top }
.bad { color: #a00 } .ok { color: #060 } small { color: #666 }
</style>
<h1>Ingress</h1>
<p>Docker: <b class="{{if eq .Docker "connected"}}ok{{else}}bad{{end}}">{{.Docker}}</b>. {{len .Sites}} sites{{if not .Updated.IsZero}}, updated {{.Updated.Format "2006-01-02 15:04:05"}} UTC{{end}}. {{.Draining}} old versions draining.</p>
{{with .Error}}<p class="bad">{{.}}</p>{{end}}
{{if .Refused}}<h2>Refused</h2>
<table><tr><th>Service<th>Label<th>Why<th>Meanwhile</tr>
{{range .Refused}}<tr><td>{{.Source}}<br><small>{{.Stack}}</small><td>{{.Label}}<td>{{.Reason}} <small>{{.Rule}}{{with .Site}}, {{.}}{{end}}</small><td>{{if .Kept}}the last good version serves{{else}}left out{{end}}</tr>
{{end}}</table>{{end}}
<h2>Sites</h2>
<table><tr><th>Site<th>Stack<th>Services<th>Upstreams<th>Certificates</tr>
{{range .Sites}}<tr><td>{{range .Addresses}}{{.}}<br>{{end}}<td>{{.Stack}}<td>{{range .Services}}{{.}}<br>{{end}}
<td>{{range .Upstreams}}<span class="{{if .Healthy}}ok{{else}}bad{{end}}">{{.Address}}</span><br>{{else}}<small>none</small>{{end}}
<td>{{range .Certificates}}{{.Host}} <small>{{.Issuer}}</small> until {{.Expires.Format "2006-01-02"}}<br>{{end}}</tr>
{{end}}</table>
`))
