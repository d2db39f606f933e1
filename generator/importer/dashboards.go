package importer

import (
	"regexp"
	"slices"
	"strings"

	"skep/generator/check"
)

// homepage lifts the labels of Homepage's service discovery.
// https://gethomepage.dev/configs/docker/#automatic-service-discovery
func (im *importer) homepage(s *service) {
	if s.def.has("x-homepage") {
		return
	}
	out, widget := &mapping{}, &mapping{}
	for i, l := range s.labels {
		name, ok := strings.CutPrefix(l.key, "homepage.")
		if !ok {
			continue
		}
		option, isWidget := strings.CutPrefix(name, "widget.")
		switch {
		case l.value == "":
		case isWidget && option != "":
			widget.set(option, im.widgetValue(s, i, option))
		case name == "href" && im.isFront(s, l.value):
		case name == "weight" && isNumber(l.value):
			out.set(name, number(l.value))
		case slices.Contains([]string{"group", "name", "icon", "href", "description"}, name):
			out.set(name, l.value)
		default:
			im.note(l.pos, s.name, "label "+l.key, "x-homepage has no such key; it stays as a label", "")
			continue
		}
		im.claim(s, i, "x-homepage")
	}
	switch {
	case widget.len() == 1 && widget.has("type"):
		out.set("widget", widget.get("type"))
	case widget.len() > 0:
		out.set("widget", widget)
	}
	if out.len() > 0 {
		s.def.set("x-homepage", out)
	}
}

// widgetValue keeps a key of a widget out of the file: Homepage puts its own
// variable there.
func (im *importer) widgetValue(s *service, i int, option string) any {
	l := s.labels[i]
	if option == "key" {
		option = "api_key"
	}
	if !check.LooksSecret(option, im.literal(l.value)) && !slices.ContainsFunc(variables(l.value), func(v string) bool { return im.secretVariable(option, v) }) {
		return l.value
	}
	name := "HOMEPAGE_VAR_" + strings.ToUpper(notWord.ReplaceAllString(s.name+"_"+option, "_"))
	im.note(l.pos, s.name, "label "+l.key, "its value looks like a secret and was not copied", "give Homepage the variable "+name+" with an op:// reference in its stack")
	return "{{" + name + "}}"
}

var notWord = regexp.MustCompile(`[^A-Za-z0-9]+`)

func isNumber(s string) bool {
	_, ok := number(s).(int)
	return ok
}

// isFront reports whether a URL is the one that Skep gives the service.
func (im *importer) isFront(s *service, url string) bool {
	path, ok := im.pathOfFront(s, url)
	return ok && (path == "" || path == "/")
}

// pathOfFront takes the address of the service's first route off a URL.
func (im *importer) pathOfFront(s *service, url string) (string, bool) {
	i := slices.IndexFunc(s.routes, func(r draft) bool { return len(r.paths) == 0 })
	if i < 0 && len(s.routes) > 0 {
		i = 0
	}
	if i < 0 {
		return "", false
	}
	r := s.routes[i]
	front := "https://" + im.resolve(r.host)
	if r.tls == "off" {
		front = "http://" + im.resolve(r.host)
	}
	if r.listen != "" {
		front += ":" + r.listen
	}
	path, ok := strings.CutPrefix(im.resolve(url), front)
	if !ok || path != "" && path[0] != '/' || strings.Contains(path, "$") {
		return "", false
	}
	return path, true
}

var kumaLabel = regexp.MustCompile(`^kuma\.([^.]+)\.([^.]+)\.([^.]+)$`)

// kumaMonitor is one monitor of AutoKuma's.
// https://github.com/BigBoot/AutoKuma#usage
type kumaMonitor struct {
	id, kind string
	labels   map[string]int // by setting
}

// monitor lifts the labels of one uptime check.
func (im *importer) monitor(s *service) {
	var monitors []*kumaMonitor
	var other []int
	for i, l := range s.labels {
		if !strings.HasPrefix(l.key, "kuma.") {
			continue
		}
		m := kumaLabel.FindStringSubmatch(l.key)
		if m == nil {
			other = append(other, i)
			continue
		}
		at := slices.IndexFunc(monitors, func(k *kumaMonitor) bool { return k.id == m[1] && k.kind == m[2] })
		if at < 0 {
			at = len(monitors)
			monitors = append(monitors, &kumaMonitor{m[1], m[2], map[string]int{}})
		}
		monitors[at].labels[m[3]] = i
	}
	if len(monitors)+len(other) == 0 || s.def.has("x-monitor") {
		return
	}
	lifted := false
	for _, k := range monitors {
		if why := im.liftMonitor(s, k, lifted); why != "" {
			first := slices.Min(sortedValues(k.labels))
			im.note(s.labels[first].pos, s.name, "labels kuma."+k.id+"."+k.kind, why+"; they stay as labels", "")
			continue
		}
		lifted = true
	}
	for _, i := range other {
		im.note(s.labels[i].pos, s.name, "label "+s.labels[i].key, "it is not kuma.ID.TYPE.SETTING; it stays as a label", "")
	}
	if !lifted && len(s.routes) > 0 {
		s.def.set("x-monitor", false) // the labels say it; a second check would join them
	}
}

func (im *importer) liftMonitor(s *service, k *kumaMonitor, another bool) string {
	switch {
	case another:
		return "x-monitor is one check"
	case !slices.Contains([]string{"http", "keyword", "port", "ping"}, k.kind):
		return "x-monitor knows no type " + k.kind
	}
	get := func(key string) (string, bool) {
		i, ok := k.labels[key]
		if !ok {
			return "", false
		}
		return s.labels[i].value, true
	}
	out := &mapping{}
	var claims []string
	set := func(label, key string, v any) {
		claims = append(claims, label)
		if key != "" {
			out.set(key, v)
		}
	}
	if name, ok := get("name"); ok {
		if strings.Contains(name, "{{") {
			return "its name is a template"
		}
		if name == s.name {
			set("name", "", nil)
		} else {
			set("name", "name", name)
		}
	}
	if k.kind != "http" {
		out.set("type", k.kind)
	}
	switch k.kind {
	case "http", "keyword":
		url, ok := get("url")
		if !ok || strings.Contains(url, "{{") {
			return "it has no fixed URL"
		}
		switch path, front := im.pathOfFront(s, url); {
		case front && (path == "" || path == "/"):
			set("url", "", nil)
		case front:
			set("url", "path", path)
		default:
			set("url", "url", url)
		}
		keyword, ok := get("keyword")
		if ok != (k.kind == "keyword") || ok && keyword == "" {
			return "its keyword and its type disagree"
		}
		if ok {
			set("keyword", "keyword", keyword)
		}
	case "port", "ping":
		host, _ := get("hostname")
		if !slices.Contains([]string{s.name, string(im.result.Name) + "_" + s.name}, host) {
			return "it looks at another host"
		}
		set("hostname", "", nil)
		if k.kind == "port" {
			port, _ := get("port")
			if len(s.routes) == 0 || s.routes[0].port != port {
				return "its port is not that of the route"
			}
			set("port", "", nil)
		}
	}
	if interval, ok := get("interval"); ok {
		n, isInt := number(interval).(int)
		if !isInt || n < 1 || n > 1e6 {
			return "its interval is not a number of seconds"
		}
		if n == 60 {
			set("interval", "", nil)
		} else {
			set("interval", "interval", span(n))
		}
	}
	for _, label := range claims {
		im.claim(s, k.labels[label], "x-monitor")
	}
	im.keepSettings(s, k)
	if out.len() > 0 {
		s.def.set("x-monitor", out)
	} else if len(s.routes) == 0 {
		s.def.set("x-monitor", true)
	}
	return ""
}

// span is a number of seconds as people write it: 2m, 90s.
func span(seconds int) string {
	for _, unit := range []struct {
		name string
		of   int
	}{{"h", 3600}, {"m", 60}} {
		if seconds%unit.of == 0 {
			return itoa(seconds/unit.of) + unit.name
		}
	}
	return itoa(seconds) + "s"
}

// keepSettings leaves settings that x-monitor lacks as labels of the same
// monitor, by the name that Skep gives it.
func (im *importer) keepSettings(s *service, k *kumaMonitor) {
	id := "kuma." + slug(string(im.result.Name)+"-"+s.name) + "." + k.kind + "."
	for _, setting := range sortedKeys(k.labels) {
		i := k.labels[setting]
		if s.claimed[i] {
			continue
		}
		im.note(s.labels[i].pos, s.name, "label "+s.labels[i].key, "x-monitor has no such key; it stays as the label "+id+setting, "")
		s.labels[i].key = id + setting
		s.renamed = true
	}
}

// metrics lifts the labels of a Prometheus scrape.
func (im *importer) metrics(s *service) {
	port, path, scrape := s.find("prometheus.port"), s.find("prometheus.path"), s.find("prometheus.scrape")
	if port < 0 || s.def.has("x-metrics") {
		for _, l := range s.labels {
			if strings.HasPrefix(l.key, "prometheus.") {
				im.note(l.pos, s.name, "label "+l.key, "x-metrics needs prometheus.port; it stays as a label", "")
			}
		}
		return
	}
	at := s.labels[port]
	switch network := im.metricsNetwork(); {
	case !isPort(im.resolve(at.value)):
		im.note(at.pos, s.name, "label "+at.key, "its value is no port; it stays as a label", "")
		return
	case scrape >= 0 && s.labels[scrape].value != "true":
		return // not scraped
	case network == "":
		im.note(at.pos, s.name, "label "+at.key, "no shared network is there for Prometheus; it stays as a label", "name one in the cluster file, metrics: NETWORK, and write x-metrics: "+at.value)
		return
	default:
		im.result.facts.metrics = network
	}
	out := any(number(at.value))
	if path >= 0 && s.labels[path].value != "/metrics" {
		m := &mapping{}
		m.set("port", out)
		m.set("path", s.labels[path].value)
		out = m
	}
	for _, i := range []int{port, path, scrape} {
		if i >= 0 {
			im.claim(s, i, "x-metrics")
		}
	}
	for _, l := range s.labels {
		if strings.HasPrefix(l.key, "prometheus.") && !slices.Contains([]string{"prometheus.port", "prometheus.path", "prometheus.scrape"}, l.key) {
			im.note(l.pos, s.name, "label "+l.key, "x-metrics has no such key; it stays as a label", "")
		}
	}
	s.def.set("x-metrics", out)
	s.metrics = true
}
