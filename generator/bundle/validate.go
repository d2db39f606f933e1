package bundle

import (
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/schema"
	composetypes "github.com/docker/cli/cli/compose/types"
)

// Validate holds every stack against the loader that `docker stack deploy`
// runs, and returns what it refuses by stack.
//
// The loader compiles its JSON Schema anew for each file, which costs more
// than all the rest. The schema looks at each service, network and so on by
// itself, so the sections of all stacks are checked as one big file first; only
// when that fails is each stack checked alone, to name it.
func (b *Bundle) Validate() map[Name]error {
	together := map[string]map[string]any{}
	for i, s := range b.Stacks {
		version, _ := s.Compose["version"].(string)
		all := together[version]
		if all == nil {
			all = map[string]any{"version": version}
			together[version] = all
		}
		for key, v := range s.Compose {
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
	valid := true
	for version, all := range together {
		if err := schema.Validate(all, version); err != nil {
			valid = false
		}
	}
	errs := make([]error, len(b.Stacks))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), max(1, len(b.Stacks))) {
		workers.Go(func() {
			for i := range next {
				errs[i] = b.Stacks[i].load(valid)
			}
		})
	}
	for i := range b.Stacks {
		next <- i
	}
	close(next)
	workers.Wait()
	out := map[Name]error{}
	for i, err := range errs {
		if err != nil {
			out[b.Stacks[i].Name] = err
		}
	}
	return out
}

func (s *Stack) load(schemaChecked bool) error {
	dict := maps.Clone(s.Compose)
	dict["services"] = escape(s.Compose["services"])
	_, err := loader.Load(composetypes.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []composetypes.ConfigFile{{Filename: string(s.Name) + ".yaml", Config: dict}},
	}, func(o *loader.Options) { o.SkipValidation = schemaChecked })
	if err != nil {
		return fmt.Errorf("docker refuses %s.yaml: %s", s.Name, strings.TrimSpace(err.Error()))
	}
	return nil
}
