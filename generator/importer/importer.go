// Package importer turns a plain Compose file for Swarm, with the labels,
// networks and helpers that people write by hand, into a stack file that says
// what was meant. Routing, logins and who meets whom stay as they were; what
// has no key of its own stays as it was written and is listed.
package importer

import (
	"cmp"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

// Input is a Compose file and what is known around it.
type Input struct {
	Name    string // of the stack, unless the file names one
	File    string // how people know the file
	Content []byte
	// Beside is the Compose file's folder, nil if it has none: .env, files of
	// configs, templates of `op inject`.
	Beside fs.FS
	// Cluster that the stack joins; nil leaves zones to a proposal.
	Cluster *stack.Cluster
	Tier    stack.Tier // empty: the first for the ingress, else the last
}

// Result is a stack file and how it came to be.
type Result struct {
	Name  stack.Name `json:"name"`
	Tier  stack.Tier `json:"tier"`
	Stack []byte     `json:"-"`
	// Files belong beside the stack file, by path.
	Files          map[string][]byte `json:"-"`
	Lifted         []Lift            `json:"lifted"`
	Kept           []Note            `json:"kept"`
	Hosts          []string          `json:"hosts"`
	SharedNetworks []string          `json:"sharedNetworks"`
	// Ingress is the service that runs Caddy, if one does.
	Ingress stack.ServiceName `json:"ingress,omitempty"`

	facts facts
}

// Lift is something that a key of Skep says now.
type Lift struct {
	problem.Position
	Service string `json:"service,omitempty"`
	From    string `json:"from"` // label, network, variable, ...
	To      string `json:"to"`   // x-ingress, ...
}

// Note is something that a person has to look at.
type Note struct {
	problem.Position
	Service string `json:"service,omitempty"`
	What    string `json:"what"`
	Why     string `json:"why"`
	Remedy  string `json:"remedy,omitempty"`
}

var (
	ruleFile = problem.Rule{ID: "import-unreadable", Severity: problem.Error, Title: "Nothing to import from",
		Doc: "The file is empty, too large, or not UTF-8 text, so it is not a Compose file.\n\nGive `skep import` the Compose file that `docker stack deploy -c` takes."}
	ruleSyntax = problem.Rule{ID: "import-syntax", Severity: problem.Error, Title: "Not YAML that Compose reads",
		Doc: "The file is not one YAML document that Compose could read.\n\nThe message says where reading stopped; `docker stack config -c FILE` says it in Docker's words."}
	ruleCompose = problem.Rule{ID: "import-not-compose", Severity: problem.Error, Title: "Not a Compose file",
		Doc: "The file is YAML and has no `services` mapping.\n\nOnly Compose files can be imported; other formats (Kubernetes manifests, Nomad jobs) need a Compose file first."}
	ruleName = problem.Rule{ID: "import-name", Severity: problem.Error, Title: "No name for the stack",
		Doc: "Neither the file nor its name gives a stack name that Swarm takes: lower case letters, digits, - and _, 40 at most.\n\nSet `name:` at the top of the file."}
)

// Rules lists what Import can complain about.
func Rules() []problem.Rule { return []problem.Rule{ruleFile, ruleSyntax, ruleCompose, ruleName} }

// Import makes a stack file of each Compose file. It reads nothing but its
// input. There are no results when the problems hold an error.
func Import(inputs []Input) ([]Result, problem.List) {
	var across known
	run := func() ([]Result, problem.List) {
		results := make([]Result, len(inputs))
		var problems problem.List
		for i, in := range inputs {
			var found problem.List
			results[i], found = importOne(in, across)
			problems = append(problems, found...)
		}
		if problems.Failed() {
			return nil, problems.Sorted()
		}
		return results, problems.Sorted()
	}
	results, problems := run()
	if len(inputs) < 2 || problems.Failed() {
		return results, problems
	}
	across = learn(results)
	return run()
}

// known is what files say of each other.
type known struct {
	// networks that are named from outside are shared, also where one is
	// created.
	networks []string
	internal map[string]bool // those that one file creates without a way out
	// ingress is the network of the service that runs Caddy.
	ingress string
	sso     bool // some route asks for a login
	// imports are the snippets that labels need which stay.
	imports map[string]bool
	// snippets are defined at the ingress and imported everywhere.
	snippets map[string]*directive
}

func learn(results []Result) known {
	out := known{snippets: map[string]*directive{}, imports: map[string]bool{}, internal: map[string]bool{}}
	for _, r := range results {
		out.networks = append(out.networks, r.SharedNetworks...)
		maps.Copy(out.snippets, r.facts.snippets)
		maps.Copy(out.imports, r.facts.imports)
		maps.Copy(out.internal, r.facts.internal)
		out.sso = out.sso || r.facts.asksSSO
		if r.Ingress != "" {
			out.ingress = cmp.Or(out.ingress, r.facts.ingress)
		}
	}
	return out
}

func importOne(in Input, across known) (Result, problem.List) {
	d, problems := parse(in.Content, in.File)
	if problems.Failed() {
		return Result{}, problems
	}
	values, _ := d.root.value().(*mapping)
	if services, ok := values.get("services").(*mapping); !ok || services.len() == 0 {
		p := ruleCompose.At(d.at("services"), "the file has no services")
		if values.has("kind") && values.has("apiVersion") {
			p = ruleCompose.At(d.at("kind"), "the file is a Kubernetes manifest")
		}
		return Result{}, append(problems, p.WithRemedy("name a Compose file; it has services: at its top"))
	}
	im := &importer{Input: in, across: across, doc: d, values: values, references: map[string]string{}, rewritten: map[string][]byte{}, stored: map[string]string{}}
	im.env = im.readEnv()
	if p, ok := im.stackName(); !ok {
		return Result{}, append(problems, p)
	}
	im.run()
	text, commentsLost := d.patch(values, im.result.Lifted)
	if commentsLost {
		im.note(d.at(), "", "comments and layout of the file", "its YAML could not be edited in place, so the file was written anew", "copy the comments over by hand")
	}
	im.result.Stack = text
	im.companions()
	im.finish()
	return im.result, problems
}

// importer is one run: the values of the file, which it edits, and what it
// has to say about them.
type importer struct {
	Input
	across   known
	doc      *document
	values   *mapping
	env      map[string]string
	services []*service // in the file's order
	nets     map[string]*network
	ingress  string // the ingress network's name in the Swarm, "" if unknown
	// stored are references by the value that somebody has to store there.
	stored map[string]string
	// rewritten are files beside the Compose file whose copies differ.
	rewritten map[string][]byte
	// references are what templates give to variables of .env.
	references map[string]string
	result     Result
}

// service is one service on its way.
type service struct {
	name   string
	def    *mapping
	labels []label
	routes []draft
	caddy  bool // it runs the ingress
	gone   bool // its work is done by something else
	// wasOn are the networks it was on, by identity.
	wasOn []string
	// claimed marks the labels that a key of Skep says now.
	claimed map[int]bool
	metrics bool // it has x-metrics
	renamed bool // some labels have other keys now
}

func (im *importer) run() {
	im.readServices()
	im.tier()
	im.readNetworks()
	im.opInject()
	im.dockerProxies()
	im.sockets()
	im.routes()
	for _, s := range im.live() {
		im.homepage(s)
		im.monitor(s)
		im.metrics(s)
	}
	im.writeLabels()
	for _, s := range im.live() {
		im.pin(s)
		im.files(s)
		im.fileSecrets(s)
		im.environmentSecrets(s)
		im.envFileSecrets(s)
	}
	im.networks()
	im.topLevel()
	im.topSecrets()
	im.topConfigs()
	im.dropGone()
}

// stackName settles what the stack is called.
func (im *importer) stackName() (problem.Problem, bool) {
	if given, ok := im.values.get("name").(string); ok {
		if name, err := stack.ParseName(given); err == nil {
			im.result.Name = name
			return problem.Problem{}, true
		}
	}
	name, err := stack.ParseName(im.Name)
	if err != nil {
		return ruleName.At(im.doc.at("name"), "%s", err).WithRemedy("set `name:` at the top of the file"), false
	}
	im.result.Name = name
	if im.values.has("name") {
		im.note(im.doc.at("name"), "", "name: "+text(im.values.get("name")), "a stack has one name, of lower case letters, digits, - and _", "it is "+string(name)+" now")
	}
	im.values.setFirst("name", string(name))
	return problem.Problem{}, true
}

// Tiers are those of a cluster file that lists none.
var Tiers = []stack.Tier{"infrastructure", "platform", "application"}

// tier settles when the stack is deployed: what others stand on comes first.
func (im *importer) tier() {
	tiers := Tiers
	if im.Cluster != nil {
		tiers = im.Cluster.Tiers
	}
	tier := im.Tier
	if given, ok := im.values.get("x-tier").(string); ok && slices.Contains(tiers, stack.Tier(given)) {
		im.result.Tier = stack.Tier(given)
		return
	}
	if tier == "" {
		tier = tiers[len(tiers)-1]
		if slices.ContainsFunc(im.services, func(s *service) bool { return s.caddy }) {
			tier = tiers[0]
		}
	}
	im.result.Tier = tier
	im.values.set("x-tier", string(tier))
	im.values.delete("version") // obsolete in Compose
}

func (im *importer) readServices() {
	services, _ := im.values.get("services").(*mapping)
	for _, e := range services.entries {
		def, ok := e.value.(*mapping)
		if !ok {
			continue // the loader speaks of it
		}
		s := &service{name: e.key, def: def, claimed: map[int]bool{}}
		s.labels = im.readLabels(s)
		im.services = append(im.services, s)
	}
	im.result.facts.snippets = map[string]*directive{}
	for _, s := range im.services {
		s.caddy = im.runsIngress(s)
		blocks, _ := s.directives()
		for _, b := range blocks {
			if name, ok := snippetName(b); ok {
				im.result.facts.snippets[name] = b
			}
		}
	}
}

// runsIngress reports whether the service is the Caddy that reads labels.
func (im *importer) runsIngress(s *service) bool {
	if c := im.Cluster; c != nil && len(c.Stacks) > 0 {
		if _, ok := c.Service(c.Ingress.Service); ok {
			return c.Ingress.Service == stack.ServiceRef{Stack: im.result.Name, Service: stack.ServiceName(s.name)}
		}
	}
	image := strings.ToLower(text(s.def.get("image")))
	return strings.Contains(image, "caddy-docker-proxy") || strings.Contains(image, "skep-ingress") ||
		im.variable(s, "CADDY_INGRESS_NETWORKS") != "" || im.variable(s, "CADDY_DOCKER_MODE") != ""
}

// live are the services that stay.
func (im *importer) live() []*service {
	return slices.DeleteFunc(slices.Clone(im.services), func(s *service) bool { return s.gone })
}

// at is where a key of the service stands.
func (im *importer) at(s *service, path ...string) problem.Position {
	return im.doc.at(append([]string{"services", s.name}, path...)...)
}

func (im *importer) lift(pos problem.Position, service, from, to string) {
	im.result.Lifted = append(im.result.Lifted, Lift{pos, service, from, to})
}

func (im *importer) note(pos problem.Position, service, what, why, remedy string) {
	im.result.Kept = append(im.result.Kept, Note{pos, service, what, why, remedy})
}

// noteOnce notes what holds for the file, at the first place that shows it.
func (im *importer) noteOnce(pos problem.Position, what, why, remedy string) {
	if !slices.ContainsFunc(im.result.Kept, func(n Note) bool { return n.What == what && n.Why == why }) {
		im.note(pos, "", what, why, remedy)
	}
}

// dropGone takes out services whose work something else does, and what names
// them.
func (im *importer) dropGone() {
	services, _ := im.values.get("services").(*mapping)
	for _, gone := range im.services {
		if !gone.gone {
			continue
		}
		services.delete(gone.name)
		for _, s := range im.live() {
			switch d := s.def.get("depends_on").(type) {
			case []any:
				d = slices.DeleteFunc(slices.Clone(d), func(v any) bool { return v == gone.name })
				s.def.setOrDelete("depends_on", d)
			case *mapping:
				d.delete(gone.name)
				s.def.setOrDelete("depends_on", d)
			}
		}
	}
	volumes, ok := im.values.get("volumes").(*mapping)
	if !ok {
		return
	}
	for _, e := range slices.Clone(volumes.entries) {
		before := slices.ContainsFunc(im.services, func(s *service) bool { return s.gone && s.mountsVolume(e.key) })
		after := slices.ContainsFunc(im.live(), func(s *service) bool { return s.mountsVolume(e.key) })
		if before && !after {
			volumes.delete(e.key)
		}
	}
	im.values.setOrDelete("volumes", volumes)
}

func (im *importer) finish() {
	r := &im.result
	byPlace := func(a, b problem.Position) int { return a.Compare(b) }
	slices.SortStableFunc(r.Lifted, func(a, b Lift) int {
		return cmp.Or(byPlace(a.Position, b.Position), strings.Compare(a.To, b.To), strings.Compare(a.From, b.From))
	})
	slices.SortStableFunc(r.Kept, func(a, b Note) int {
		return cmp.Or(byPlace(a.Position, b.Position), strings.Compare(a.What, b.What), strings.Compare(a.Why, b.Why))
	})
	// Never null: machines read them.
	r.Lifted, r.Kept = slices.Compact(append([]Lift{}, r.Lifted...)), slices.Compact(append([]Note{}, r.Kept...))
	r.facts.ingress = im.ingress
	r.Hosts = []string{}
	for _, s := range im.live() {
		if s.caddy {
			r.Ingress = stack.ServiceName(s.name)
		}
		for _, route := range s.routes {
			r.Hosts = append(r.Hosts, im.resolve(route.host))
		}
	}
	slices.Sort(r.Hosts)
	r.Hosts = slices.Compact(r.Hosts)
	r.SharedNetworks = slices.Compact(slices.Sorted(slices.Values(append([]string{}, r.SharedNetworks...))))
}
