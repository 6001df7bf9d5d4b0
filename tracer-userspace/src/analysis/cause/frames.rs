// SPDX-License-Identifier: Apache-2.0
//! Functions that are known to free on behalf of somebody else, by the parts of their names.

use crate::{
    analysis::function::{Level, levels, split},
    model::{Line, LineKind},
};

/// Classes of the standard library that hold elements: GNU's and LLVM's, with what they are made of.
const CONTAINERS: [&str; 26] = [
    "vector",
    "_Vector_base",
    "deque",
    "_Deque_base",
    "list",
    "_List_base",
    "forward_list",
    "array",
    "map",
    "multimap",
    "set",
    "multiset",
    "unordered_map",
    "unordered_multimap",
    "unordered_set",
    "unordered_multiset",
    "_Hashtable",
    "_Hashtable_alloc",
    "_Rb_tree",
    "__tree",
    "__hash_table",
    "__list_imp",
    "__split_buffer",
    "queue",
    "stack",
    "priority_queue",
];

/// Their functions that give up elements, besides destructors.
const GIVE_UP: [&str; 28] = [
    "clear",
    "erase",
    "extract",
    "pop",
    "pop_back",
    "pop_front",
    "remove",
    "remove_if",
    "resize",
    "assign",
    "operator=",
    "_M_clear",
    "_M_erase",
    "_M_erase_aux",
    "_M_erase_at_end",
    "_M_erase_at_begin",
    "_M_destroy_data",
    "_M_destroy_data_aux",
    "_M_deallocate_node",
    "_M_deallocate_nodes",
    "_M_destroy_node",
    "_M_drop_node",
    "_M_move_assign",
    "__clear",
    "__base_destruct_at_end",
    "__destruct_at_end",
    "__deallocate_node",
    "destroy",
];

/// What holds a buffer, in the name spaces `tt` and `ttnn`.
const HANDLES: [&str; 5] = ["Buffer", "MeshBuffer", "Tensor", "MeshTensor", "DeviceStorage"];
/// The same, whose copies share one memory: containers of these are as good as containers of shared pointers.
const TENSORS: [&str; 3] = ["Tensor", "MeshTensor", "DeviceStorage"];

/// Classes of the standard library that a container's element may be wrapped in.
const WRAPPERS: [&str; 7] =
    ["pair", "_Hash_node", "_Rb_tree_node", "__hash_value_type", "__value_type", "allocator", "tuple"];
/// Most levels of types within types that are looked at.
const DEEPEST: usize = 8;
/// Most arguments of a template that are looked at.
const MOST_ARGUMENTS: usize = 8;

/// Functions of programs that give up their buffers, qualified.
const PROGRAM_POOL: [&str; 5] = [
    "tt::tt_metal::Program::~Program",
    "tt::tt_metal::ProgramImpl::~ProgramImpl",
    "tt::tt_metal::ProgramImpl::release_buffers",
    "tt::tt_metal::detail::ProgramImpl::~ProgramImpl",
    "tt::tt_metal::detail::ProgramImpl::release_buffers",
];

/// Methods of a cache that give up entries, besides destructors; Python's are among them.
const CACHE_METHODS: [&str; 19] = [
    "clear",
    "clear_all",
    "reset",
    "evict",
    "erase",
    "purge",
    "flush",
    "invalidate",
    "remove",
    "pop",
    "popitem",
    "drop",
    "release",
    "release_all",
    "deallocate",
    "deallocate_all",
    "close",
    "cache_clear",
    "__del__",
];

/// Words with which a function's name begins that clears a cache: `clear_program_cache`.
const CLEAR: [&str; 10] =
    ["clear", "empty", "evict", "purge", "flush", "invalidate", "drop", "release", "reset", "deallocate"];

/// Gives a matching function's name as it is to be told.
pub(super) type Matcher = fn(&Line) -> Option<String>;

/// Clears a program cache.
pub(super) fn program_cache(line: &Line) -> Option<String> {
    given_up(line).or_else(|| cleared(line)).filter(|(_, of_programs)| *of_programs).map(|(name, _)| name)
}

/// Destroys an entry of a program cache, whose own destructor may be inlined in the device's (ttnn 0.71 to 0.73): a function of
/// the type-erased entry. Demanglers give up at its name (ttnn 0.69.0 to 0.79.0).
pub(super) fn program_cache_entry(line: &Line) -> Option<String> {
    let function = line.function.as_deref().filter(|_| line.kind == LineKind::Native)?;
    let is_entry = ["unique_any", "program_cache", "CachedMeshWorkload"].iter().all(|part| function.contains(part));
    let destroys = ["__invoke", "~unique_any"].iter().any(|part| function.contains(part));
    (is_entry && destroys).then(|| "an entry of the ProgramCache".to_owned())
}

/// Clears a cache that is not known to be one of programs.
pub(super) fn cache(line: &Line) -> Option<String> {
    given_up(line).or_else(|| cleared(line)).filter(|(_, of_programs)| !*of_programs).map(|(name, _)| name)
}

/// Gives up a program's buffers.
pub(super) fn program_pool(line: &Line) -> Option<String> {
    let name = path(&native(line)?);
    PROGRAM_POOL.contains(&name.as_str()).then_some(name)
}

/// Gives up elements of a container of shared pointers to buffers, or of tensors.
pub(super) fn container(line: &Line) -> Option<String> {
    let levels = native(line)?;
    if levels.first()?.name != "std" {
        return None;
    }
    let function = levels.last()?;
    let told = |holder: &Level, element: &str| format!("std::{}<{element}>::{}", holder.name, function.name);
    // What destroys a range of elements is no member of the container.
    if matches!(function.name.as_str(), "_Destroy" | "__destroy" | "_Destroy_n" | "__destroy_n") {
        let pointed = split(&function.arguments, ",").into_iter().find_map(|it| it.trim().strip_suffix('*'));
        return Some(format!("std::{}<{}*>", function.name, handle(pointed?)?));
    }
    let class = &levels[levels.len().checked_sub(2)?];
    // A container that is itself shared goes with its count.
    if class.name.starts_with("_Sp_counted_") || class.name.starts_with("__shared_ptr_") {
        let gone = ["_M_dispose", "_M_destroy", "__on_zero_shared", "__on_zero_shared_impl"];
        let held = split(&class.arguments, ",").into_iter().take(MOST_ARGUMENTS).find_map(container_in)?;
        return gone.contains(&function.name.as_str()).then(|| told(class, &held));
    }
    let holder = levels.iter().rev().skip(1).find(|level| CONTAINERS.contains(&level.name.as_str()))?;
    // The last is how LLVM's vector is destroyed: by a class of its own.
    let gives_up =
        function.name.starts_with('~') || GIVE_UP.contains(&function.name.as_str()) || class.name == "__destroy_vector";
    let element = element_in(holder, DEEPEST)?;
    gives_up.then(|| told(holder, &element))
}

/// The levels of a function of machine code that is no part of the interpreter.
fn native(line: &Line) -> Option<Vec<Level>> {
    (line.kind == LineKind::Native).then_some(line.function.as_deref()).flatten().map(levels)
}

fn path(levels: &[Level]) -> String {
    levels.iter().map(|level| level.name.as_str()).collect::<Vec<_>>().join("::")
}

/// The name of a function that clears a cache, and whether that is one of programs.
fn cleared(line: &Line) -> Option<(String, bool)> {
    let names: Vec<String> = match line.kind {
        LineKind::Native => native(line)?.into_iter().map(|level| level.name).collect(),
        LineKind::Python => {
            let names = line.function.as_deref()?.split('.').filter(|name| *name != "<locals>");
            names.map(str::to_owned).collect()
        }
        LineKind::Interpreter => return None,
    };
    let told = names.join(if line.kind == LineKind::Python { "." } else { "::" });
    let function = names.last()?;
    let class = names.iter().rev().nth(1).map(|class| words(class)).unwrap_or_default();
    let gives_up = function.starts_with('~') || CACHE_METHODS.contains(&function.as_str());
    if gives_up && class.last().is_some_and(|word| word == "cache") {
        return Some((told, of_programs(&class)));
    }
    let function = words(function);
    let [first, .., last] = function.as_slice() else { return None };
    let clears = CLEAR.contains(&first.as_str()) || first == "disable" && function.iter().any(|word| word == "clear");
    (clears && last == "cache").then(|| (told, of_programs(&function)))
}

/// A smart pointer that deletes a cache, whose own destructor may be inlined there.
fn given_up(line: &Line) -> Option<(String, bool)> {
    let levels = native(line)?;
    let [name_space, pointer, function] = levels.as_slice() else { return None };
    let deletes = [("default_delete", "operator()"), ("unique_ptr", "~unique_ptr"), ("unique_ptr", "reset")];
    if name_space.name != "std" || !deletes.contains(&(pointer.name.as_str(), function.name.as_str())) {
        return None;
    }
    let deleted = self::levels(split(&pointer.arguments, ",").first()?.trim()).pop()?;
    let words = words(&deleted.name);
    let told = format!("std::{}<{}>::{}", pointer.name, deleted.name, function.name);
    words.last().is_some_and(|word| word == "cache").then(|| (told, of_programs(&words)))
}

fn of_programs(words: &[String]) -> bool {
    words.iter().rev().nth(1).is_some_and(|word| word == "program")
}

/// `LRUCache`, `lru_cache` and `lruCache` are `lru`, `cache`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut chars = name.chars().peekable();
    let mut last = '_';
    while let Some(c) = chars.next() {
        let next_is_lower = chars.peek().is_some_and(char::is_ascii_lowercase);
        let begins = c.is_ascii_uppercase() && (!last.is_ascii_uppercase() || next_is_lower);
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
        last = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The element of a container by which it holds a buffer: a shared pointer, or a tensor, also within a pair, a node, an
/// allocator or a container of these.
fn element(argument: &str, depth: usize) -> Option<String> {
    if let Some(handle) = handle(argument) {
        return Some(handle);
    }
    let levels = levels(argument.trim());
    let outer = levels.last().filter(|_| depth > 0 && levels.first().is_some_and(|first| first.name == "std"))?;
    let wraps = WRAPPERS.contains(&outer.name.as_str()) || CONTAINERS.contains(&outer.name.as_str());
    wraps.then(|| element_in(outer, depth - 1)).flatten()
}

fn element_in(holder: &Level, depth: usize) -> Option<String> {
    split(&holder.arguments, ",").into_iter().take(MOST_ARGUMENTS).find_map(|argument| element(argument, depth))
}

/// `std::shared_ptr<tt::tt_metal::Buffer>` is `std::shared_ptr<Buffer>`, and `ttnn::Tensor` is `Tensor`.
fn handle(argument: &str) -> Option<String> {
    let levels = levels(argument.trim());
    let last = levels.last()?;
    let shared = levels.len() == 2 && levels[0].name == "std" && last.name == "shared_ptr";
    match shared {
        true => ours(&last.arguments, &HANDLES).map(|name| format!("std::shared_ptr<{name}>")),
        false => ours(argument, &TENSORS),
    }
}

/// The name of a class of the target, if it is one of some.
fn ours(argument: &str, names: &[&str]) -> Option<String> {
    let levels = levels(argument.trim());
    let last = levels.last()?;
    let ours = ["tt", "ttnn"].contains(&levels.first()?.name.as_str());
    (ours && last.arguments.is_empty() && names.contains(&last.name.as_str())).then(|| last.name.clone())
}

/// A container of handles, as the type of something shared.
fn container_in(argument: &str) -> Option<String> {
    let levels = levels(argument.trim());
    let holder = levels.last().filter(|_| levels.first().is_some_and(|first| first.name == "std"))?;
    let element = element_in(holder, DEEPEST)?;
    CONTAINERS.contains(&holder.name.as_str()).then(|| format!("std::{}<{element}>", holder.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As demanglers have it.
    const BUFFERS: &str =
        "std::shared_ptr<tt::tt_metal::Buffer>, std::allocator<std::shared_ptr<tt::tt_metal::Buffer> > ";

    fn line(kind: LineKind, function: &str) -> Line {
        Line {
            kind,
            function: Some(function.to_owned()),
            file: None,
            line: None,
            module: None,
            address: 0,
            inlined: false,
            missing: None,
        }
    }

    fn of(matcher: Matcher, function: &str) -> Option<String> {
        matcher(&line(LineKind::Native, &function.replace("BUFFERS", BUFFERS)))
    }

    #[test]
    fn containers_that_give_up_buffers() {
        for (function, told) in [
            ("std::vector<BUFFERS>::~vector()", "std::vector<std::shared_ptr<Buffer>>::~vector"),
            ("std::vector<BUFFERS>::clear()", "std::vector<std::shared_ptr<Buffer>>::clear"),
            ("std::__1::vector<BUFFERS>::__clear[abi:ne180100]()", "std::vector<std::shared_ptr<Buffer>>::__clear"),
            (
                "std::__1::vector<BUFFERS>::__destroy_vector::operator()[abi:ne180100]()",
                "std::vector<std::shared_ptr<Buffer>>::operator()",
            ),
            (
                "std::_Hashtable<int, std::pair<int const, std::shared_ptr<tt::tt_metal::distributed::MeshBuffer>>, \
                 std::allocator<int>>::clear()",
                "std::_Hashtable<std::shared_ptr<MeshBuffer>>::clear",
            ),
            (
                "std::__detail::_Hashtable_alloc<std::allocator<std::__detail::_Hash_node<std::pair<int const, \
                 ttnn::Tensor>, false>>>::_M_deallocate_node(std::__detail::_Hash_node<int, false>*)",
                "std::_Hashtable_alloc<Tensor>::_M_deallocate_node",
            ),
            (
                "std::_Rb_tree<int, std::pair<int const, std::vector<tt::tt_metal::Tensor, int>>, int>::_M_erase(int)",
                "std::_Rb_tree<Tensor>::_M_erase",
            ),
            (
                "void std::_Destroy<std::shared_ptr<tt::tt_metal::Buffer>*>(std::shared_ptr<tt::tt_metal::Buffer>*, int)",
                "std::_Destroy<std::shared_ptr<Buffer>*>",
            ),
            (
                "std::_Sp_counted_ptr_inplace<std::deque<BUFFERS>, std::allocator<void>, (__gnu_cxx::_Lock_policy)2>\
                 ::_M_dispose()",
                "std::_Sp_counted_ptr_inplace<std::deque<std::shared_ptr<Buffer>>>::_M_dispose",
            ),
        ] {
            assert_eq!(of(container, function).as_deref(), Some(told), "{function}");
        }
    }

    #[test]
    fn what_only_looks_like_such_a_container() {
        for function in [
            "std::vector<int, std::allocator<int>>::~vector()",
            "std::vector<std::shared_ptr<spdlog::Logger>, int>::~vector()",
            "std::vector<std::shared_ptr<audio::Buffer>, int>::~vector()",
            "std::vector<std::shared_ptr<tt::tt_metal::BufferConfig>, int>::~vector()",
            "std::vector<tt::tt_metal::Buffer*, int>::~vector()",
            "std::vector<BUFFERS>::push_back(std::shared_ptr<tt::tt_metal::Buffer>&&)",
            "std::vector<BUFFERS>::size() const",
            "mine::vector<BUFFERS>::~vector()",
            "mine::std::vector<BUFFERS>::~vector()",
            "mine::clear(std::vector<BUFFERS>&)",
            "void mine::Owner<std::vector<BUFFERS>>::clear()",
            "std::function<void (std::vector<BUFFERS>)>::operator()(std::vector<BUFFERS>) const",
            "std::pair<int, std::shared_ptr<tt::tt_metal::Buffer>>::~pair()",
            "std::shared_ptr<tt::tt_metal::Buffer>::~shared_ptr()",
            "std::_Sp_counted_ptr_inplace<tt::tt_metal::Buffer, std::allocator<void>, 2>::_M_dispose()",
            "std::_Sp_counted_base<(__gnu_cxx::_Lock_policy)2>::_M_release_last_use_cold()",
            "_ZNSt6vectorISt10shared_ptrIN2tt8tt_metal6BufferEESaIS4_EED1Ev",
            "tt::tt_metal::Buffer::~Buffer()",
            "",
        ] {
            assert_eq!(of(container, function), None, "{function}");
        }
        let deep = format!("std::vector<{}int{}>::~vector()", "std::pair<".repeat(9999), ">".repeat(9999));
        assert_eq!(of(container, &deep), None);
        assert_eq!(container(&line(LineKind::Interpreter, &format!("std::vector<{BUFFERS}>::~vector()"))), None);
    }

    #[test]
    fn caches_that_are_cleared() {
        let device = "tt::tt_metal::distributed::MeshDeviceImpl::disable_and_clear_program_cache";
        for (function, told) in [
            (format!("{device}()"), device),
            (
                "tt::tt_metal::program_cache::detail::ProgramCache::clear()".to_owned(),
                "tt::tt_metal::program_cache::detail::ProgramCache::clear",
            ),
            (
                "(anonymous namespace)::clear_program_cache(int)".to_owned(),
                "(anonymous namespace)::clear_program_cache",
            ),
        ] {
            assert_eq!(of(program_cache, &function).as_deref(), Some(told));
            assert_eq!(of(cache, &function), None, "told once");
        }
        for (function, told) in [
            (
                "std::default_delete<tt::tt_metal::program_cache::detail::ProgramCache>::operator()(int*) const",
                "std::default_delete<ProgramCache>::operator()",
            ),
            (
                "std::unique_ptr<model::ProgramCache, std::default_delete<model::ProgramCache> >::~unique_ptr()",
                "std::unique_ptr<ProgramCache>::~unique_ptr",
            ),
        ] {
            assert_eq!(of(program_cache, function).as_deref(), Some(told), "{function}");
        }
        for (function, told) in [
            ("model::WeightCache::clear()", "model::WeightCache::clear"),
            ("model::LRUCache<int, A<B>>::~LRUCache()", "model::LRUCache::~LRUCache"),
            ("void model::kv_cache<int>::reset<long>(int) const", "model::kv_cache::reset"),
            ("empty_cache", "empty_cache"),
        ] {
            assert_eq!(of(cache, function).as_deref(), Some(told), "{function}");
        }
        for (function, told) in [
            ("WeightCache.clear", Some("WeightCache.clear")),
            ("setup.<locals>.Cache.__del__", Some("setup.Cache.__del__")),
            ("clear_kv_cache", Some("clear_kv_cache")),
            ("test_clear_cache", None),
            ("TestCache.test_clear", None),
            ("Model.clear", None),
        ] {
            assert_eq!(cache(&line(LineKind::Python, function)).as_deref(), told, "{function}");
        }
    }

    #[test]
    fn an_entry_that_goes_with_its_program_cache() {
        // As in ttnn 0.72.0, but for what is cut out.
        let entry = "_ZZN4ttsl10unique_anyILi4096ELi32EEC1IN2tt8tt_metal13program_cache6detail25AdaptedCachedMeshWorkload\
            ILm4EEETnNSt9enable_ifEiE4typeELi0EEEOT_ENUlRSt5arrayISt4byteLm4096EEE_8__invokeESM_";
        assert_eq!(of(program_cache_entry, entry).as_deref(), Some("an entry of the ProgramCache"));
        for other in [entry.replace("8__invoke", "4_FUN"), entry.replace("program_cache", "model_cache")] {
            assert_eq!(of(program_cache_entry, &other), None, "{other}");
        }
    }

    #[test]
    fn what_only_looks_like_a_cache() {
        for function in [
            "model::WeightCache::get(int)",
            "model::WeightCache::clear_statistics()",
            "model::CacheLine::clear()",
            "model::Cachet::clear()",
            "model::cache::Model::clear()",
            "void model::Owner<model::WeightCache>::clear()",
            "model::clear(model::WeightCache&)",
            "model::clear_cache_statistics()",
            "model::precached_release()",
            "model::WeightCache::clear()::{lambda()#1}::operator()() const",
            "std::default_delete<model::Model<model::WeightCache>>::operator()(int*) const",
            "std::unique_ptr<model::WeightCache>::get() const",
            "std::unique_ptr<model::Model, model::WeightCache>::~unique_ptr()",
            "cache",
            "clear",
        ] {
            assert_eq!(of(cache, function), None, "{function}");
            assert_eq!(of(program_cache, function), None, "{function}");
        }
    }

    #[test]
    fn programs_that_give_up_their_buffers() {
        for function in ["ProgramImpl::~ProgramImpl()", "ProgramImpl::release_buffers()"] {
            assert!(of(program_pool, &format!("tt::tt_metal::detail::{function}")).is_some(), "{function}");
        }
        for function in [
            "tt::tt_metal::detail::ProgramImpl::add_buffer(int)",
            "tt::tt_metal::ProgramSpec::~ProgramSpec()",
            "mine::Program::~Program()",
            "mine::tt::tt_metal::Program::~Program()",
        ] {
            assert_eq!(of(program_pool, function), None, "{function}");
        }
    }
}
