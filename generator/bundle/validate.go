package bundle

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/schema"
	composetypes "github.com/docker/cli/cli/compose/types"
)

// portion is how many stacks are held against Docker's schema at once.
const portion = 32

// servicesAtOnce is how many services of one stack are loaded at once, so that a
// large one is loaded by several processors.
const servicesAtOnce = 32

// Validate holds every stack against the loader that `docker stack deploy`
// runs, and returns what it refuses by stack.
func (b *Bundle) Validate() map[Name]error {
	refused := map[Name]error{}
	for stacks := range slices.Chunk(b.Stacks, portion) {
		for i, err := range validate(stacks, b.Keep) {
			if err != nil {
				refused[stacks[i].Name] = err
			}
		}
	}
	return refused
}

// validate answers for each of some stacks.
//
// The loader compiles its JSON Schema anew for each file, which costs more
// than all the rest. The schema looks at each service, network and so on by
// itself, so the sections of the stacks are checked as one big file, while each
// is loaded without; only when that fails is each stack checked alone, to name it.
func validate(stacks []*Stack, keep bool) []error {
	contents := make([]Compose, len(stacks))
	each(len(stacks), func(i int) { contents[i] = stacks[i].Compose() })

	valid := make(chan bool, 1)
	together := together(contents)
	go func() {
		ok := true
		for version, all := range together {
			ok = ok && schema.Validate(all, version) == nil
		}
		valid <- ok
	}()
	var parts []*part
	for i, c := range contents {
		parts = append(parts, c.parts(i)...)
	}
	each(len(parts), func(i int) {
		p := parts[i]
		p.loaded, p.err = p.content.load(stacks[p.stack].Name, true)
	})

	schemaChecked := <-valid
	errs := make([]error, len(stacks))
	loaded := make([]*composetypes.Config, len(stacks))
	for _, p := range parts {
		switch {
		case errs[p.stack] != nil:
		case p.err != nil:
			errs[p.stack] = p.err
		case loaded[p.stack] == nil:
			loaded[p.stack] = p.loaded
		default:
			loaded[p.stack].Services = append(loaded[p.stack].Services, p.loaded.Services...)
		}
	}
	for i, s := range stacks {
		if !schemaChecked || errs[i] != nil {
			loaded[i], errs[i] = contents[i].load(s.Name, schemaChecked)
		}
		if keep && errs[i] == nil {
			s.Loaded = loaded[i]
		}
	}
	return errs
}

// together has the sections of all stacks in one file for each version.
func together(contents []Compose) map[string]map[string]any {
	out := map[string]map[string]any{}
	for i, content := range contents {
		version, _ := content["version"].(string)
		all := out[version]
		if all == nil {
			all = map[string]any{"version": version}
			out[version] = all
		}
		for key, v := range content {
			section, ok := v.(map[string]any)
			if !ok {
				continue
			}
			into, _ := all[key].(map[string]any)
			if into == nil {
				into = map[string]any{}
				all[key] = into
			}
			for name, def := range section {
				into[strconv.Itoa(i)+"-"+name] = def
			}
		}
	}
	return out
}

// part is a stack, or some of the services of a large one.
type part struct {
	stack   int
	content Compose
	loaded  *composetypes.Config
	err     error
}

// parts divides the services. The first part has all else, and no service looks
// at another.
func (c Compose) parts(stack int) []*part {
	services, _ := c["services"].(map[string]any)
	var out []*part
	for names := range slices.Chunk(slices.Sorted(maps.Keys(services)), servicesAtOnce) {
		some := make(map[string]any, len(names))
		for _, name := range names {
			some[name] = services[name]
		}
		content := Compose{"version": c["version"], "services": some}
		if len(out) == 0 {
			content = maps.Clone(c)
			content["services"] = some
		}
		out = append(out, &part{stack: stack, content: content})
	}
	if len(out) == 0 {
		out = append(out, &part{stack: stack, content: c})
	}
	return out
}

// each calls f for every number below n, on all processors.
func each(n int, f func(i int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

func (c Compose) load(name Name, schemaChecked bool) (*composetypes.Config, error) {
	loaded, err := loader.Load(composetypes.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []composetypes.ConfigFile{{Filename: string(name) + ".yaml", Config: c}},
	}, func(o *loader.Options) {
		o.SkipValidation = schemaChecked
		o.SkipInterpolation = true // what Encode escapes reads as it stands here
	})
	if err != nil {
		return nil, fmt.Errorf("docker refuses %s.yaml: %s", name, strings.TrimSpace(err.Error()))
	}
	return loaded, nil
}
